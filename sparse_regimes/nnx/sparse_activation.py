"""The sparse activation as an NNX module."""

import jax
from flax import nnx
from jax.typing import ArrayLike

from sparse_regimes.errors import one_of
from sparse_regimes.masks.activations import Activation, get_activation
from sparse_regimes.masks.budget import Axis, check_scope
from sparse_regimes.masks.kernels.choice import IMPLEMENTATIONS
from sparse_regimes.masks.selection import SCORES, sparse_activation
from sparse_regimes.masks.sites import at_site
from sparse_regimes.masks.statistics import nonzero_fraction


class SparseActivation(nnx.Module):
  """:func:`sparse_regimes.sparse_activation` as a module without state.

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

  Raises:
    ValueError: naming the argument that is wrong.

  Example:
    >>> import jax.numpy as jnp
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
  ):
    get_activation(activation)
    check_scope(scope)
    one_of("score", score, SCORES)
    one_of("implementation", implementation, (None, *IMPLEMENTATIONS))
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
    y = sparse_activation(
      x,
      keep_ratio,
      activation=self.activation,
      scope=self.scope,
      score=self.score,
      axis=self.axis,
      implementation=self.implementation,
    )
    if self.counts_nonzero:
      earlier = getattr(self, "nonzero", None)
      before = () if earlier is None else earlier.get_value()
      self.nonzero = nnx.Intermediate((*before, nonzero_fraction(y)))
    return y
