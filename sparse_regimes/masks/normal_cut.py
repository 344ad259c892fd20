"""A cut from mean and standard deviation: top-k without a search."""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.typing import ArrayLike

from sparse_regimes.masks.budget import Axis, as_ratio, budget_axes


def normal_cut(
  scores: jax.Array,
  keep_ratio: ArrayLike,
  *,
  axis: Axis | None = None,
  scope: str | None = None,
) -> jax.Array:
  r"""Above it a share of a normal distribution lies that is the keep ratio.

  .. math:: c = \mathrm{mean}(s) + \mathrm{std}(s)\, \Phi^{-1}(1 - r)

  Of scores that are normal :math:`s > c` keeps a share r. Of others it does
  not: of heavy tails or of a ReLU's output, half zeros, it keeps another share,
  which the nonzero fraction tells.

  Args:
    scores: real.
    keep_ratio: r, scalar, Python or traced. From 1 on the cut is
      :math:`-\infty`.
    axis: the axis or axes that share one cut.
    scope: instead of axes, as in :func:`sparse_regimes.sparse_activation`.

  Returns:
    The cut, in the dtype of the scores, with 1 for each shared axis. It has a
    derivative with respect to the scores.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.normal_cut import normal_cut
    >>> x = jax.random.normal(jax.random.key(0), (100_000,))
    >>> cut = normal_cut(x, 0.05, axis=0)
    >>> print(f"{jnp.mean(x > cut):.2f}")
    0.05

  Source: the statistical top-k of Spark Transformer (arXiv 2506.06644) and of
    Gemma 3n, which has the population's standard deviation.
  """
  scores = jnp.asarray(scores)
  axes = budget_axes(scores, axis, None if axis is not None else scope)
  ratio = as_ratio(keep_ratio)
  is_wide = scores.dtype.itemsize >= 4
  wide = scores if is_wide else scores.astype(jnp.float32)
  mean = jnp.mean(wide, axis=axes, keepdims=True)
  variance = jnp.mean(jnp.square(wide - mean), axis=axes, keepdims=True)
  # The root of 0 has no derivative.
  std = jnp.where(
    variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0
  )
  # Of a ratio of 0 one in a million is left.
  quantile = ndtri(1 - jnp.clip(ratio, 1e-6, 0.5))
  low = -ndtri(1 - jnp.clip(1 - ratio, 1e-6, 0.5))
  quantile = jnp.where(ratio <= 0.5, quantile, low).astype(wide.dtype)
  cut = jnp.where(ratio >= 1, -jnp.inf, mean + std * quantile)
  return cut.astype(scores.dtype)
