"""What a mask leaves, counted."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


def nonzero_fraction(x: jax.Array) -> jax.Array:
  """The share of entries that are not zero.

  Counted in integers: a float32 sum of ones stops growing at 2**24.

  Args:
    x: any shape with at least one entry.

  Returns:
    float32 scalar in ``[0, 1]``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.statistics import nonzero_fraction
    >>> nonzero_fraction(jnp.array([0.0, 1.0, 2.0, 0.0]))
    Array(0.5, dtype=float32)
  """
  return jnp.count_nonzero(x).astype(jnp.float32) / x.size


# Multiply-adds of a forward pass, for each image: all, and those that read each
# site, by its name, from input to output.
Arithmetic = tuple[int, dict[str, int]]


def skippable_share(
  arithmetic: Arithmetic, nonzero: Sequence[float]
) -> float | None:
  """The share of a forward pass that multiplies by an activation of 0.

  What a kernel could skip that knows where the zeros are: an upper bound for
  its gain. A mask alone skips nothing.

  Args:
    arithmetic: of the network.
    nonzero: the fraction of nonzero activations at each site.

  Returns:
    None where it is not known what reads the sites.

  Example:
    >>> from sparse_regimes.masks.statistics import skippable_share
    >>> skippable_share((100, {"a": 40, "b": 40}), [0.5, 0.25])
    0.5
  """
  total, by_site = arithmetic
  if not any(by_site.values()):
    return None
  sites = zip(by_site.values(), nonzero, strict=True)
  return sum(size * (1 - share) for size, share in sites) / total


class SiteSums(NamedTuple):
  """What a mask does at one site, to be added up over batches.

  Attributes:
    threshold: over examples, the sum of the lowest score of what is kept and
      not zero (0 if nothing is), float32 scalar.
    kept: the sum of the kept magnitudes, float32 scalar.
    total: the sum of all magnitudes before the mask, float32 scalar.
    active: which channels (the last axis) have a nonzero entry anywhere, bool
      ``[c]``; the others are dead.
  """

  threshold: jax.Array
  kept: jax.Array
  total: jax.Array
  active: jax.Array


def site_sums(
  dense: jax.Array, sparse: jax.Array, *, score: str = "value"
) -> SiteSums:
  """Measures a mask.

  Args:
    dense: activations before the mask, ``[b, ..., c]``.
    sparse: the same after it.
    score: what it ranks by, ``value`` or ``magnitude``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.statistics import site_sums
    >>> sums = site_sums(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 3.0]]))
    >>> print(sums.threshold, sums.kept / sums.total, sums.active)
    3.0 0.75 [False  True]
  """
  sparse = sparse.astype(jnp.float32)
  size = jnp.abs(sparse)
  rows = size.reshape(-1, size.shape[-1])
  # A product, because XLA on CPU fuses several reductions of one array into a
  # loop that takes longer than all of them.
  ones = jnp.ones((1, len(rows)), jnp.float32)
  (by_channel,) = jnp.matmul(ones, rows, precision="highest")
  examples = tuple(range(1, size.ndim))
  scores = sparse if score == "value" else size
  lowest = jnp.min(jnp.where(size > 0, scores, jnp.inf), axis=examples)
  return SiteSums(
    threshold=jnp.sum(jnp.where(jnp.isfinite(lowest), lowest, 0.0)),
    kept=jnp.sum(by_channel),
    total=jnp.sum(jnp.abs(dense.astype(jnp.float32))),
    active=by_channel > 0,
  )
