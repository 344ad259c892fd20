"""Pointwise activations by the names that configs use."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sparse_regimes.errors import one_of

Activation = Callable[[jax.Array], jax.Array]


def _leaky_relu(x: jax.Array) -> jax.Array:
  # Not jax.nn.leaky_relu: the derivative at exactly 0 is the slope here.
  return jnp.where(x > 0, x, 0.1 * x)


ACTIVATIONS: dict[str, Activation] = {
  "relu": jax.nn.relu,
  "leakyrelu": _leaky_relu,
  "elu": jax.nn.elu,
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
  "silu": jax.nn.silu,
  "softplus": jax.nn.softplus,
  "identity": lambda x: x,
}


def get_activation(name: str) -> Activation:
  """The activation called ``name``.

  Args:
    name: ``relu``, ``leakyrelu`` (slope 0.1), ``elu``, ``gelu`` (exact),
      ``silu``, ``softplus`` or ``identity``.

  Raises:
    ValueError: for another name; the message lists these.

  Example:
    >>> get_activation("relu")(jnp.array([-1.0, 2.0]))
    Array([0., 2.], dtype=float32)
  """
  return ACTIVATIONS[one_of("activation", name, ACTIVATIONS)]
