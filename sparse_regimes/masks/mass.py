"""As many entries as it takes: by mass, or beside the largest."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from sparse_regimes.masks.budget import Axis, budget_axes
from sparse_regimes.masks.kernels.bits import ordered_bits


def top_p_mask(
  scores: jax.Array,
  p: ArrayLike,
  *,
  axis: Axis | None = None,
  scope: str | None = None,
) -> jax.Array:
  r"""Marks the smallest set that holds a share p of the mass.

  .. math:: \min k: \sum_{i \le k} |s|_{(i)} \ge p \sum_i |s_i|

  of the entries from the largest on; among equals the one with the lower
  index first. At least one entry is marked; where p is 1 or more, all are.

  Args:
    scores: real; their absolute values are the mass.
    p: scalar, Python or traced.
    axis: the axis or axes over which there is one mass.
    scope: instead of axes, as in :func:`sparse_regimes.sparse_activation`.

  Returns:
    bool, the shape of ``scores``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.mass import top_p_mask
    >>> top_p_mask(jnp.array([4.0, -3.0, 2.0, 1.0]), 0.7, axis=0).astype(int)
    Array([1, 1, 0, 0], dtype=int32)

  Source: "topp" of arXiv 2509.00454, with power 1; the tie rule is ours.
  """
  rows, back = _rows(jnp.abs(jnp.asarray(scores)), axis, scope)
  keys, mass = ordered_bits(rows), rows.astype(jnp.float32)
  p = jnp.asarray(p, jnp.float32)
  wanted = p * jnp.sum(mass, axis=-1, keepdims=True)

  def held(threshold: jax.Array) -> jax.Array:
    """The mass from a threshold on."""
    return jnp.sum(jnp.where(keys >= threshold, mass, 0.0), -1, keepdims=True)

  # The largest threshold from which on there is enough, bit by bit: absolute
  # values have no sign. Sorting would take twenty times as long.
  def add_bit(number: jax.Array, threshold: jax.Array) -> jax.Array:
    bit = jnp.left_shift(jnp.ones((), keys.dtype), bits - 2 - number)
    higher = threshold | bit.astype(keys.dtype)
    return jnp.where(held(higher) >= wanted, higher, threshold)

  bits = jnp.iinfo(keys.dtype).bits
  begin = jnp.zeros_like(keys[..., :1])
  at = lax.fori_loop(0, bits - 1, add_bit, begin)
  above, tied = keys > at, keys == at
  # Of those at the threshold as many as it takes, the lower index first.
  missing = wanted - jnp.sum(jnp.where(above, mass, 0.0), -1, keepdims=True)
  before = jnp.cumsum(tied, axis=-1, dtype=jnp.int32) - tied.astype(jnp.int32)
  takes = tied & (before.astype(jnp.float32) * mass < missing)
  first = jnp.argmax(keys, axis=-1)[..., None]
  index = jnp.arange(keys.shape[-1]).reshape((1,) * (keys.ndim - 1) + (-1,))
  return back(above | takes | (index == first) | (p >= 1))


def max_p_mask(
  scores: jax.Array,
  p: ArrayLike,
  *,
  axis: Axis | None = None,
  scope: str | None = None,
) -> jax.Array:
  r"""Marks what is at least a share p of the largest.

  .. math:: |s_i| \ge p \max_j |s_j|

  Args:
    scores: real.
    p: scalar, Python or traced: 0 marks all, 1 the largest alone.
    axis: the axis or axes over which there is one maximum.
    scope: instead of axes, as in :func:`sparse_regimes.sparse_activation`.

  Returns:
    bool, the shape of ``scores``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.mass import max_p_mask
    >>> max_p_mask(jnp.array([4.0, -3.0, 2.0, 1.0]), 0.5, axis=0).astype(int)
    Array([1, 1, 1, 0], dtype=int32)

  Source: "maxp" of arXiv 2509.00454.
  """
  scores = jnp.abs(jnp.asarray(scores))
  axes = budget_axes(scores, axis, None if axis is not None else scope)
  largest = jnp.max(scores, axis=axes, keepdims=True)
  # Of 0 all are kept, what is not a number included.
  p = jnp.asarray(p, jnp.float32)
  return (scores >= p.astype(scores.dtype) * largest) | (p <= 0)


def _rows(x: jax.Array, axis: Axis | None, scope: str | None):
  """``[..., size]`` of what shares a budget, and the way back."""
  axes = budget_axes(x, axis, None if axis is not None else scope)
  at_end = tuple(range(x.ndim - len(axes), x.ndim))
  moved = jnp.moveaxis(x, axes, at_end)
  lead = moved.shape[: x.ndim - len(axes)]

  def back(rows: jax.Array) -> jax.Array:
    return jnp.moveaxis(rows.reshape(moved.shape), at_end, axes)

  return moved.reshape(*lead, -1), back
