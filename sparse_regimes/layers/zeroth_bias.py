"""A bias for every position and channel, before the first linear."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparse_regimes.errors import in_range


class ZerothBias(nn.Module):
  r"""Adds a parameter of the input's own shape, shared over the batch.

  .. math:: X' = X + D_{1:T}

  Put it after the norm before an MLP, so that the first linear's input has as
  many degrees of freedom as there are positions. After every update D is
  projected: :func:`sparse_regimes.training.projections.zeroth_bias`.

  Attributes:
    max_length: positions there are biases for; None is those of the first
      input.
    dtype: of the bias that is added; the parameter is float32.

  Raises:
    ValueError: for an input longer than ``max_length``.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import ZerothBias
    >>> x = jnp.ones((2, 3, 4))
    >>> y, variables = ZerothBias().init_with_output(jax.random.key(0), x)
    >>> variables["params"]["zeroth_bias"].shape
    (3, 4)

  Source: the DB-MLP of Peng et al., arXiv 2309.03004.
  """

  max_length: int | None = None
  dtype: Any = jnp.float32

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.max_length is not None:
      in_range("max_length", self.max_length, 1)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[..., T, d]``, or ``[..., d]`` as one position, to its shape."""
    length = x.shape[-2] if x.ndim > 2 else 1
    known: int
    if self.has_variable("params", "zeroth_bias"):
      known = self.get_variable("params", "zeroth_bias").shape[0]
    else:
      known = self.max_length or length
    if length > known:
      raise ValueError(
        f"max_length of {self.name or 'ZerothBias'} must be at least the"
        f" {length} positions of its input, got {known}"
      )
    bias = self.param(
      "zeroth_bias", nn.initializers.zeros, (known, x.shape[-1]), jnp.float32
    )
    bias = bias[:length] if x.ndim > 2 else bias[0]
    return x + jnp.broadcast_to(bias, x.shape).astype(self.dtype)
