"""The sparse activation as an NNX module."""

from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from sparse_regimes.masks.activations import Activation
from sparse_regimes.masks.budget import Axis
from sparse_regimes.masks.masking import (
  check_site,
  masked_activation,
  sparse_activation,
)
from sparse_regimes.masks.rules import make_rule
from sparse_regimes.masks.sites import at_site
from sparse_regimes.masks.statistics import nonzero_fraction


class Masks(nnx.Variable):
  """What a mask remembers between batches."""


class SparseActivation(nnx.Module):
  """:func:`sparse_regimes.sparse_activation` as a module.

  A mask that remembers something keeps it in a :class:`Masks` variable, and
  learns unless ``deterministic`` is set, as ``model.eval()`` does.

  Args:
    activation: a name of :func:`sparse_regimes.sparse_activation`, or a
      pointwise function.
    scope: ``global`` (one budget per example) or ``channel`` (one per
      position).
    score: rank by ``value`` or ``magnitude``.
    axis: the axis or axes that share one budget, instead of a scope.
    site: the number of the site, from 0 on in the order of the network, where
      ``keep_ratio`` is a vector with an entry a site.
    implementation: of the selection; None is the fastest here.
    mask: ``topk``, or another one of :func:`sparse_regimes.sparse_activation`.
    gradient: ``masked``, ``straight_through`` or ``dense``.
    channels: of the last axis, for a mask that remembers something of each.

  Raises:
    ValueError: naming the argument that is wrong.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.nnx import SparseActivation
    >>> layer = SparseActivation()
    >>> layer(jnp.array([[1.0, 2.0, 3.0, -4.0]]), 0.5)
    Array([[0., 2., 3., 0.]], dtype=float32)

  Source: Wang, arXiv 2603.03131.
  """

  def __init__(
    self,
    activation: str | Activation = "relu",
    *,
    scope: str = "global",
    score: str = "value",
    axis: Axis | None = None,
    site: int | None = None,
    implementation: str | None = None,
    mask: str = "topk",
    gradient: str = "masked",
    channels: int | None = None,
  ):
    check_site(activation, scope, score, implementation, mask, gradient)
    begin = make_rule(mask).begin
    if begin is not None:
      if channels is None:
        raise ValueError(
          f"channels must be given with mask {mask}, which remembers something"
          " of each, got None"
        )
      self.masks = Masks(begin(channels))
    self.mask = mask
    self.gradient = gradient
    self.deterministic = False
    self.activation = activation
    self.scope = scope
    self.score = score
    self.axis = axis
    self.site = site
    self.implementation = implementation
    # Set by `functional`: then it stores its nonzero fraction.
    self.counts_nonzero = False

  def __call__(self, x: jax.Array, keep_ratio: ArrayLike) -> jax.Array:
    """Maps ``[b, ...]`` to the same shape; ``keep_ratio`` may be traced."""
    if self.site is not None:
      keep_ratio = at_site(keep_ratio, self.site)
    fields: dict[str, Any] = {
      "activation": self.activation,
      "scope": self.scope,
      "score": self.score,
      "axis": self.axis,
      "implementation": self.implementation,
      "mask": self.mask,
      "gradient": self.gradient,
    }
    if hasattr(self, "masks"):
      trains = not self.deterministic
      y, new = masked_activation(
        x, keep_ratio, self.masks.get_value(), trains=trains, **fields
      )
      if trains:
        self.masks.set_value(new)
    else:
      y = sparse_activation(x, keep_ratio, **fields)
    if self.counts_nonzero:
      earlier = getattr(self, "nonzero", None)
      before = () if earlier is None else earlier.get_value()
      self.nonzero = nnx.Intermediate((*before, nonzero_fraction(y)))
    return y
