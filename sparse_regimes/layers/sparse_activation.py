"""The sparse activation as a Linen module."""

from dataclasses import InitVar

import jax
from flax import linen as nn
from jax.typing import ArrayLike

from sparse_regimes.errors import one_of
from sparse_regimes.layers.taps import tap
from sparse_regimes.masks.activations import Activation, get_activation
from sparse_regimes.masks.budget import Axis, check_scope
from sparse_regimes.masks.kernels.choice import IMPLEMENTATIONS
from sparse_regimes.masks.selection import SCORES, sparse_activation
from sparse_regimes.masks.sites import at_site
from sparse_regimes.masks.statistics import site_sums


class SparseActivation(nn.Module):
  """:func:`sparse_regimes.sparse_activation` as a module without parameters.

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

  With the collection ``intermediates`` mutable it stores a
  :class:`sparse_regimes.training.metrics.SiteSums` under ``site``.

  Example:
    >>> import jax.numpy as jnp
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

  # Linen calls this again without the argument when it adopts a submodule.
  def __post_init__(self, scope: str | None = None) -> None:
    if scope is not None:
      self.budget_scope = scope
    super().__post_init__()
    get_activation(self.activation)
    check_scope(self.budget_scope)
    one_of("score", self.score, SCORES)
    one_of("implementation", self.implementation, (None, *IMPLEMENTATIONS))

  @nn.compact
  def __call__(self, x: jax.Array, keep_ratio: ArrayLike) -> jax.Array:
    """Maps ``[b, ...]`` to the same shape; ``keep_ratio`` may be traced."""
    if self.site is not None:
      keep_ratio = at_site(keep_ratio, self.site)
    x = tap(self, "pre", x)
    y = sparse_activation(
      x,
      keep_ratio,
      activation=self.activation,
      scope=self.budget_scope,
      score=self.score,
      axis=self.axis,
      implementation=self.implementation,
    )
    # Measured only for those who collect it.
    if self.is_mutable_collection("intermediates"):
      dense = get_activation(self.activation)(x)
      sums = site_sums(dense, y, score=self.score)
      self.sow("intermediates", "site", sums)
    return tap(self, "hidden", y)
