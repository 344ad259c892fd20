"""An image classifier under ``shard_map``, its batch norm over all devices.

The images are noise around ten patterns.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import PartitionSpec

import sparse_regimes as sr

NUM_CLASSES, BATCH = 10, 64


class Classifier(nn.Module):
  @nn.compact
  def __call__(self, images, keep_ratio, train=False):
    x = images
    stats = []
    for channels in (16, 32):
      x = nn.Conv(channels, (3, 3), strides=2, use_bias=False)(x)
      # No devices are there yet while it is initialised.
      axis = None if self.is_initializing() else "devices"
      x = nn.BatchNorm(use_running_average=not train, axis_name=axis)(x)
      x = sr.sparse_activation(x, keep_ratio)
      stats.append(jnp.mean(x != 0))
    return nn.Dense(NUM_CLASSES)(x.mean(axis=(1, 2))), jnp.stack(stats)


model, tx = Classifier(), optax.sgd(0.1, momentum=0.9)
controller = sr.controllers.strategy1(decide_every=8)


def batches(num_steps):
  patterns = jax.random.normal(jax.random.key(0), (NUM_CLASSES, 8, 8, 3))
  for key in jax.random.split(jax.random.key(1), num_steps):
    labels = jax.random.randint(key, (BATCH,), 0, NUM_CLASSES)
    noise = jax.random.normal(key, (BATCH, 8, 8, 3))
    yield {"images": patterns[labels] + noise, "labels": labels}


def main(num_steps=100):
  variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), 1.0)
  state = sr.TrainState.create(
    variables, tx=tx, controller=controller, rng=jax.random.key(1)
  )
  step = sr.make_train_step(
    model.apply, tx, controller, axis_name="devices", jit=False
  )
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
