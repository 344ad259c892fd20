"""An image classifier under ``shard_map``, its batch norm over all devices.

The images are noise around ten patterns.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import PartitionSpec

NUM_CLASSES, BATCH = 10, 64


class Classifier(nn.Module):
  @nn.compact
  def __call__(self, images, train=False):
    x = images
    for channels in (16, 32):
      x = nn.Conv(channels, (3, 3), strides=2, use_bias=False)(x)
      # No devices are there yet while it is initialised.
      axis = None if self.is_initializing() else "devices"
      x = nn.BatchNorm(use_running_average=not train, axis_name=axis)(x)
      x = nn.relu(x)
    return nn.Dense(NUM_CLASSES)(x.mean(axis=(1, 2)))


class State(NamedTuple):
  params: dict
  batch_stats: dict
  opt_state: optax.OptState


model, tx = Classifier(), optax.sgd(0.1, momentum=0.9)


def loss_fn(params, batch_stats, batch):
  logits, updated = model.apply(
    {"params": params, "batch_stats": batch_stats},
    batch["images"],
    train=True,
    mutable=["batch_stats"],
  )
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, batch["labels"]
  )
  accuracy = jnp.mean(logits.argmax(-1) == batch["labels"])
  return losses.mean(), (updated["batch_stats"], accuracy)


def train_step(state, batch):
  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, (batch_stats, accuracy)), grads = grad_fn(*state[:2], batch)
  grads = jax.lax.pmean(grads, "devices")
  batch_stats = jax.lax.pmean(batch_stats, "devices")
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = {"loss": loss, "accuracy": accuracy}
  metrics = jax.lax.pmean(metrics, "devices")
  return State(params, batch_stats, opt_state), metrics


def batches(num_steps):
  patterns = jax.random.normal(jax.random.key(0), (NUM_CLASSES, 8, 8, 3))
  for key in jax.random.split(jax.random.key(1), num_steps):
    labels = jax.random.randint(key, (BATCH,), 0, NUM_CLASSES)
    noise = jax.random.normal(key, (BATCH, 8, 8, 3))
    yield {"images": patterns[labels] + noise, "labels": labels}


def main(num_steps=100):
  variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  params, batch_stats = variables["params"], variables["batch_stats"]
  state = State(params, batch_stats, tx.init(params))
  step = train_step
  mesh = jax.make_mesh((jax.device_count(),), ("devices",))
  here, split = PartitionSpec(), PartitionSpec("devices")
  with jax.set_mesh(mesh):
    step = jax.jit(
      jax.shard_map(
        step, in_specs=(here, split), out_specs=here, check_vma=False
      )
    )
    for i, batch in enumerate(batches(num_steps)):
      state, metrics = step(
        jax.device_put(state, here), jax.device_put(batch, split)
      )
      if i % 20 == 0:
        print(i, {name: round(float(m), 4) for name, m in metrics.items()})
  return state, metrics


if __name__ == "__main__":
  main()
