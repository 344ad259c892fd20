"""A network that compiles in a moment, with all that a step has to carry.

And compiled ``init`` and ``apply`` for networks of any kind: an operation at a
time costs a hundred small compilations instead of one.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparse_regimes import SparseActivation, TrainState, make_train_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.layers import BatchNorm
from sparse_regimes.masks.statistics import nonzero_fraction


# Never optimised: it is called once.
@functools.partial(
  jax.jit,
  static_argnums=0,
  compiler_options={
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
  },
)
def init(model, images, seed=0):
  return model.init(jax.random.key(seed), images, 1.0)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, variables, images, keep_ratio=1.0):
  """Evaluates: the logits, and the nonzero fraction of every site."""
  return model.apply(variables, images, keep_ratio, train=False)


class TinyNet(nn.Module):
  """Linear, batch norm, sparse ReLU, dropout, linear."""

  dropout: float = 0.0
  num_classes: int = 10

  @nn.compact
  def __call__(self, images, keep_ratio, train=False):
    x = nn.Dense(64)(images.reshape(images.shape[0], -1))
    x = SparseActivation()(BatchNorm()(x, train=train), keep_ratio)
    stats = nonzero_fraction(x)[None]
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(self.num_classes)(x), stats


def tiny_batch():
  images = jax.random.randint(jax.random.key(0), (16, 4, 4, 3), 0, 256)
  return {"images": images.astype(jnp.uint8), "labels": jnp.arange(16) % 10}


def tiny_state(model, tx, controller):
  images = normalize(tiny_batch()["images"])
  return TrainState.create(
    init(model, images, seed=1),
    tx=tx,
    controller=controller,
    rng=jax.random.key(2),
  )


def tiny_setup(controller, tx, *, donate_state=True, **arguments):
  """The model, a state and a train step."""
  model = TinyNet(**arguments)
  train_step = make_train_step(
    model.apply,
    tx,
    controller,
    preprocess=normalize,
    donate_state=donate_state,
  )
  return model, tiny_state(model, tx, controller), train_step
