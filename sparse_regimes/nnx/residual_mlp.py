"""The residual MLP in NNX, with the parameters of the Linen one."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range
from sparse_regimes.masks.activations import Activation
from sparse_regimes.masks.sites import at_site, check_sites
from sparse_regimes.masks.statistics import nonzero_fraction
from sparse_regimes.nnx.sparse_activation import SparseActivation


class _Block(nnx.Module):
  def __init__(
    self, width: int, dropout: float, dtype: Any, rngs: nnx.Rngs, **site: Any
  ):
    self.norm = nnx.LayerNorm(width, epsilon=1e-6, dtype=dtype, rngs=rngs)
    self.linear1 = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
    self.site = SparseActivation(**site)
    self.dropout = nnx.Dropout(dropout, rngs=rngs if dropout else None)

  def __call__(
    self, z: jax.Array, keep_ratio: ArrayLike
  ) -> tuple[jax.Array, jax.Array]:
    hidden = self.site(self.linear1(self.norm(z)), keep_ratio)
    return self.dropout(hidden), nonzero_fraction(hidden)


class ResidualMLP(nnx.Module):
  r"""A linear stem, hidden layers with a residual stream, a head.

  .. math:: z \leftarrow z + \sigma(W\, \mathrm{LN}(z) + b)

  As :class:`sparse_regimes.models.ResidualMLP`, of which the ``params`` of
  :func:`sparse_regimes.nnx.functional` have the names: equal parameters give
  equal logits.

  Args:
    in_features: numbers in an image.
    width: of every layer, at least 1.
    depth: hidden layers, at least 1.
    num_classes: outputs.
    activation: see :func:`sparse_regimes.sparse_activation`.
    scope: ``global`` or ``channel``.
    score: ``value`` or ``magnitude``.
    dropout: rate behind the activation, in ``[0, 1)``.
    dtype: of the computation.
    rngs: of the initialisation and the dropout.

  Raises:
    ValueError: naming the argument that is wrong.

  Example:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from sparse_regimes.nnx import ResidualMLP
    >>> model = ResidualMLP(48, width=16, depth=2, rngs=nnx.Rngs(0))
    >>> logits, stats = model(jnp.ones((2, 4, 4, 3)), 0.2)
    >>> logits.shape, stats.shape
    ((2, 10), (2,))

  Source: the small-scale experiments of Peng et al., arXiv 2309.03004.
  """

  def __init__(
    self,
    in_features: int,
    *,
    rngs: nnx.Rngs,
    width: int = 256,
    depth: int = 4,
    num_classes: int = 10,
    activation: str | Activation = "relu",
    scope: str = "global",
    score: str = "value",
    dropout: float = 0.0,
    dtype: Any = jnp.float32,
  ):
    in_range("in_features", in_features, 1)
    in_range("width", width, 1, 2**20)
    in_range("depth", depth, 1, 1000)
    in_range("num_classes", num_classes, 1)
    in_range("dropout", dropout, 0, 1, below=True)
    self.depth = depth
    self.stem = nnx.Linear(in_features, width, dtype=dtype, rngs=rngs)
    for i in range(depth):
      block = _Block(
        width,
        dropout,
        dtype,
        rngs,
        activation=activation,
        scope=scope,
        score=score,
      )
      setattr(self, f"block{i}", block)
    self.norm = nnx.LayerNorm(width, epsilon=1e-6, dtype=dtype, rngs=rngs)
    self.head = nnx.Linear(width, num_classes, rngs=rngs)
    self.dtype = dtype

  def __call__(
    self, images: jax.Array, keep_ratio: ArrayLike
  ) -> tuple[jax.Array, jax.Array]:
    """``(logits, stats)``: ``[b, num_classes]``, nonzero fractions by site."""
    check_sites(keep_ratio, self.depth)
    z = self.stem(images.reshape(images.shape[0], -1).astype(self.dtype))
    nonzero = []
    for i in range(self.depth):
      y, stats = getattr(self, f"block{i}")(z, at_site(keep_ratio, i))
      z = z + y
      nonzero.append(stats)
    logits = self.head(self.norm(z).astype(jnp.float32))
    return logits, jnp.stack(nonzero)
