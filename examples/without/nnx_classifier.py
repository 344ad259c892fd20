"""An NNX classifier with batch norm and dropout.

The images are noise around ten patterns.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

NUM_CLASSES, BATCH = 10, 64


class Classifier(nnx.Module):
  def __init__(self, rngs):
    self.linear1 = nnx.Linear(192, 128, rngs=rngs)
    self.norm = nnx.BatchNorm(128, rngs=rngs)
    self.dropout = nnx.Dropout(0.1, rngs=rngs)
    self.linear2 = nnx.Linear(128, NUM_CLASSES, rngs=rngs)

  def __call__(self, images):
    x = self.norm(self.linear1(images.reshape(len(images), -1)))
    x = self.dropout(nnx.relu(x))
    return self.linear2(x)


def loss_fn(model, batch):
  logits = model(batch["images"])
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, batch["labels"]
  )
  return losses.mean(), jnp.mean(logits.argmax(-1) == batch["labels"])


@nnx.jit
def train_step(model, optimizer, batch):
  grad_fn = nnx.value_and_grad(loss_fn, has_aux=True)
  (loss, accuracy), grads = grad_fn(model, batch)
  optimizer.update(model, grads)
  return {"loss": loss, "accuracy": accuracy}


def batches(num_steps):
  patterns = jax.random.normal(jax.random.key(0), (NUM_CLASSES, 8, 8, 3))
  for key in jax.random.split(jax.random.key(1), num_steps):
    labels = jax.random.randint(key, (BATCH,), 0, NUM_CLASSES)
    noise = jax.random.normal(key, (BATCH, 8, 8, 3))
    yield {"images": patterns[labels] + noise, "labels": labels}


def main(num_steps=200):
  model = Classifier(nnx.Rngs(0))
  tx = optax.adam(1e-3)
  model.train()
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  for i, batch in enumerate(batches(num_steps)):
    metrics = train_step(model, optimizer, batch)
    if i % 40 == 0:
      print(i, {name: round(float(m), 4) for name, m in metrics.items()})
  return model, metrics


if __name__ == "__main__":
  main()
