"""A language model on padded text: FSDP over all devices, accumulation, remat.

Every array of the state is split over the devices, and so is the batch; four
batches make an update. The text is a docstring of optax.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import sparse_regimes as sr

VOCABULARY, PAD, LENGTH, BATCH = 128, 0, 48, 16


class Block(nn.Module):
  @nn.compact
  def __call__(self, x, keep_ratio):
    mask = nn.make_causal_mask(x[..., 0])
    x += nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x), mask=mask)
    h = nn.Dense(128)(nn.LayerNorm()(x))
    # Of each position alone: a budget over all would leak the future.
    h = sr.sparse_activation(h, keep_ratio, axis=-1)
    return x + nn.Dense(32)(h)


class LanguageModel(nn.Module):
  @nn.compact
  def __call__(self, tokens, keep_ratio):
    positions = nn.Embed(LENGTH, 32)(jnp.arange(tokens.shape[1]))
    x = nn.Embed(VOCABULARY, 32)(tokens) + positions
    for _ in range(2):
      x = nn.remat(Block)()(x, keep_ratio)
    return nn.Dense(VOCABULARY)(nn.LayerNorm()(x))


model = LanguageModel()
tx = optax.MultiSteps(optax.adam(3e-3), 4).gradient_transformation()
controller = sr.controllers.strategy1(signal="loss", drop_tol=0.3)


def loss_fn(params, model_state, tokens, *, keep_ratio, rng):
  logits = model.apply({"params": params}, tokens[:, :-1], keep_ratio)
  targets = tokens[:, 1:]
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
  return jnp.sum(losses * (targets != PAD)) / jnp.sum(targets != PAD), {}


def fsdp(x, mesh):
  """Splits the first axis that the devices divide, if there is one."""
  spec = [None] * x.ndim
  for axis in range(x.ndim):
    if x.shape[axis] % mesh.size == 0 and "fsdp" not in spec:
      spec[axis] = "fsdp"
  return NamedSharding(mesh, PartitionSpec(*spec))


def batches(num_steps):
  lines = [line for line in optax.adam.__doc__.split("\n") if line]
  rng = np.random.default_rng(0)
  for _ in range(num_steps):
    tokens = np.full((BATCH, LENGTH), PAD, np.int32)
    for row, line in zip(tokens, rng.choice(lines, BATCH), strict=True):
      codes = [ord(c) % VOCABULARY for c in line[:LENGTH]]
      row[: len(codes)] = codes
    yield tokens


def main(num_steps=200):
  mesh = jax.make_mesh((jax.device_count(),), ("fsdp",), (AxisType.Auto,))
  tokens = jnp.zeros((1, LENGTH - 1), jnp.int32)
  variables = model.init(jax.random.key(0), tokens, 1.0)
  state = sr.TrainState.create(
    variables, tx=tx, controller=controller, rng=jax.random.key(1)
  )
  state = jax.device_put(state, jax.tree.map(lambda x: fsdp(x, mesh), state))
  step = sr.make_step(loss_fn, tx, controller)
  for i, tokens in enumerate(batches(num_steps)):
    split = NamedSharding(mesh, PartitionSpec("fsdp"))
    state, metrics = step(state, jax.device_put(tokens, split))
    if i % 20 == 0:
      print(i, {name: round(float(m), 4) for name, m in metrics.items()})
  return state, metrics


if __name__ == "__main__":
  main()
