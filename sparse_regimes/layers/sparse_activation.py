"""The sparse activation as a Linen module."""

from dataclasses import InitVar
from typing import Any

import jax
from flax import linen as nn
from jax.typing import ArrayLike

from sparse_regimes.layers.taps import tap
from sparse_regimes.masks.activations import Activation, get_activation
from sparse_regimes.masks.budget import Axis
from sparse_regimes.masks.masking import (
  check_site,
  masked_activation,
  sparse_activation,
)
from sparse_regimes.masks.rules import make_rule
from sparse_regimes.masks.sites import at_site
from sparse_regimes.masks.statistics import site_sums


class SparseActivation(nn.Module):
  """:func:`sparse_regimes.sparse_activation` as a module without parameters.

  A mask that remembers something keeps it in the collection ``masks``, which is
  part of the variables that ``init`` gives. It learns where that collection is
  mutable, as in :func:`sparse_regimes.make_train_step`.

  Attributes:
    activation: a name of :func:`sparse_regimes.sparse_activation`, or a
      pointwise function.
    scope: ``global`` (one budget per example) or ``channel`` (one per
      position).
    score: rank by ``value`` or ``magnitude``.
    implementation: of the selection; None is the fastest here.
    axis: the axis or axes that share one budget, instead of a scope.
    site: the number of the site, from 0 on in the order of the network, where
      ``keep_ratio`` is a vector with an entry a site.
    mask: ``topk``, or another one of :func:`sparse_regimes.sparse_activation`.
    gradient: ``masked``, ``straight_through`` or ``dense``.

  With the collection ``intermediates`` mutable it stores a
  :class:`sparse_regimes.training.metrics.SiteSums` under ``site``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import SparseActivation
    >>> layer = SparseActivation(activation="relu")
    >>> layer.apply({}, jnp.array([[1.0, 2.0, 3.0, -4.0]]), 0.5)
    Array([[0., 2., 3., 0.]], dtype=float32)

  Source: Wang, arXiv 2603.03131.
  """

  activation: str | Activation = "relu"
  scope: InitVar[str | None] = None
  score: str = "value"
  implementation: str | None = None
  # Linen keeps ``self.scope`` for itself, so the argument is stored here.
  budget_scope: str = "global"
  axis: Axis | None = None
  site: int | None = None
  mask: str = "topk"
  gradient: str = "masked"

  # Linen calls this again without the argument when it adopts a submodule.
  def __post_init__(self, scope: str | None = None) -> None:
    if scope is not None:
      self.budget_scope = scope
    super().__post_init__()
    check_site(
      *(self.activation, self.budget_scope, self.score),
      *(self.implementation, self.mask, self.gradient),
    )

  @nn.compact
  def __call__(self, x: jax.Array, keep_ratio: ArrayLike) -> jax.Array:
    """Maps ``[b, ...]`` to the same shape; ``keep_ratio`` may be traced."""
    if self.site is not None:
      keep_ratio = at_site(keep_ratio, self.site)
    x = tap(self, "pre", x)
    y = self._masked(x, keep_ratio)
    # Measured only for those who collect it.
    if self.is_mutable_collection("intermediates"):
      dense = get_activation(self.activation)(x)
      sums = site_sums(dense, y, score=self.score)
      self.sow("intermediates", "site", sums)
    return tap(self, "hidden", y)

  def _masked(self, x: jax.Array, keep_ratio: ArrayLike) -> jax.Array:
    fields: dict[str, Any] = {
      "activation": self.activation,
      "scope": self.budget_scope,
      "score": self.score,
      "axis": self.axis,
      "implementation": self.implementation,
      "mask": self.mask,
      "gradient": self.gradient,
    }
    begin = make_rule(self.mask).begin
    if begin is None:
      return sparse_activation(x, keep_ratio, **fields)
    state = self.variable("masks", "state", begin, x.shape[-1])
    trains = self.is_mutable_collection("masks") and not self.is_initializing()
    y, new = masked_activation(
      x, keep_ratio, state.value, trains=trains, **fields
    )
    if trains:
      state.value = new
    return y
