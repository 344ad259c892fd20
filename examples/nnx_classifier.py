"""An NNX classifier with batch norm and dropout.

The images are noise around ten patterns.
"""

import jax
import optax
from flax import nnx

import sparse_regimes as sr

NUM_CLASSES, BATCH = 10, 64


class Classifier(nnx.Module):
  def __init__(self, rngs):
    self.linear1 = nnx.Linear(192, 128, rngs=rngs)
    self.norm = nnx.BatchNorm(128, rngs=rngs)
    self.activation = sr.nnx.SparseActivation()
    self.dropout = nnx.Dropout(0.1, rngs=rngs)
    self.linear2 = nnx.Linear(128, NUM_CLASSES, rngs=rngs)

  def __call__(self, images, keep_ratio):
    x = self.norm(self.linear1(images.reshape(len(images), -1)))
    x = self.dropout(self.activation(x, keep_ratio))
    return self.linear2(x)


def batches(num_steps):
  patterns = jax.random.normal(jax.random.key(0), (NUM_CLASSES, 8, 8, 3))
  for key in jax.random.split(jax.random.key(1), num_steps):
    labels = jax.random.randint(key, (BATCH,), 0, NUM_CLASSES)
    noise = jax.random.normal(key, (BATCH, 8, 8, 3))
    yield {"images": patterns[labels] + noise, "labels": labels}


def main(num_steps=200):
  model = Classifier(nnx.Rngs(0))
  tx = optax.adam(1e-3)
  controller = sr.controllers.strategy1(decide_every=16)
  variables, apply_fn = sr.nnx.functional(model)
  state = sr.TrainState.create(
    variables, tx=tx, controller=controller, rng=jax.random.key(1)
  )
  train_step = sr.make_train_step(apply_fn, tx, controller)
  for i, batch in enumerate(batches(num_steps)):
    state, metrics = train_step(state, batch)
    if i % 40 == 0:
      print(i, {name: round(float(m), 4) for name, m in metrics.items()})
  return state, metrics


if __name__ == "__main__":
  main()
