"""The k largest by a threshold, found by bisection on order-preserving bits.

A mask needs neither a sort nor indices: any t with ``count(x >= t) == k`` gives
it. Read as integers, floats keep their order, so t is found exactly, bit by
bit, in as many counting passes as the dtype has bits.
"""

import jax
import jax.numpy as jnp
from jax import lax


def ordered_bits(x: jax.Array) -> jax.Array:
  """Integers that sort as ``lax.top_k`` sorts ``x`` (IEEE 754 total order).

  ``-NaN < -inf < ... < -0 < +0 < ... < +inf < +NaN``. Integers stay as they
  are, except that unsigned ones move to the signed dtype of their width.

  Args:
    x: any shape, any real dtype.

  Returns:
    A signed integer array of the same shape and width.

  Example:
    >>> ordered_bits(jnp.array([-jnp.inf, -0.0, 0.0, 1.0])).argsort()
    Array([0, 1, 2, 3], dtype=int32)
  """
  num_bits = x.dtype.itemsize * 8
  signed = jnp.dtype(f"int{num_bits}")
  if jnp.issubdtype(x.dtype, jnp.signedinteger):
    return x
  bits = lax.bitcast_convert_type(x, signed)
  if jnp.issubdtype(x.dtype, jnp.unsignedinteger):
    return bits ^ jnp.array(jnp.iinfo(signed).min, signed)
  # A negative float grows in magnitude with its bits: flip all but the sign.
  magnitude = jnp.array(jnp.iinfo(signed).max, signed)
  return jnp.where(bits < 0, bits ^ magnitude, bits)


def threshold_mask(
  scores: jax.Array, num_kept: jax.Array, *, axes: tuple[int, ...]
) -> jax.Array:
  """Marks the ``num_kept`` largest over ``axes`` by bisection.

  Args:
    scores: any shape and real dtype.
    num_kept: int32 scalar, at least 1, at most the size of ``axes``.
    axes: sorted, non-negative; reduced without moving data.

  Returns:
    bool, the shape of ``scores``.
  """
  keys = ordered_bits(scores)
  lowest = jnp.array(jnp.iinfo(keys.dtype).min, keys.dtype)
  num_bits = keys.dtype.itemsize * 8

  def count(marked: jax.Array) -> jax.Array:
    return jnp.sum(marked, axis=axes, keepdims=True, dtype=jnp.int32)

  row = jax.eval_shape(count, keys)
  # The invariant: count(keys >= threshold) == num_reached >= num_kept.
  threshold = jnp.full(row.shape, lowest)
  num_reached = jnp.full(row.shape, keys.size // max(1, row.size), jnp.int32)

  def unfinished(carry):
    bit, _, num_reached = carry
    return (bit >= 0) & jnp.any(num_reached != num_kept)

  def refine(carry):
    bit, threshold, num_reached = carry
    step = jnp.left_shift(jnp.ones((), keys.dtype), bit.astype(keys.dtype))
    # The first step is the sign bit: lowest ^ lowest = 0.
    higher = threshold ^ step
    num_higher = count(keys >= higher)
    up = num_higher >= num_kept
    return (
      bit - 1,
      jnp.where(up, higher, threshold),
      jnp.where(up, num_higher, num_reached),
    )

  _, threshold, num_reached = lax.while_loop(
    unfinished, refine, (jnp.int32(num_bits - 1), threshold, num_reached)
  )

  def break_ties() -> jax.Array:
    tied = keys == threshold
    num_above = num_reached - count(tied)
    return (keys > threshold) | (
      tied & (_rank(tied, axes) <= num_kept - num_above)
    )

  # Only where equal scores straddle the budget does their order matter.
  return lax.cond(
    jnp.any(num_reached != num_kept), break_ties, lambda: keys >= threshold
  )


def _rank(marked: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """1 for the first marked entry in row-major order of ``axes``, 2, ..."""
  kept_axes = tuple(a for a in range(marked.ndim) if a not in axes)
  order = kept_axes + axes
  moved = marked.transpose(order)
  rows = moved.reshape(*(marked.shape[a] for a in kept_axes), -1)
  rank = jnp.cumsum(rows, axis=-1, dtype=jnp.int32).reshape(moved.shape)
  return rank.transpose([order.index(a) for a in range(marked.ndim)])
