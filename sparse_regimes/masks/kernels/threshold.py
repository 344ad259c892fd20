"""The k largest by a threshold: a search that counts, without a sort.

A mask needs no indices: any t with ``count(x >= t) == k`` gives it. Read as
integers floats keep their order, so bisection finds t exactly in as many
counting passes as the dtype has bits. Interpolating between counts (regula
falsi on their logarithm, with Anderson and Bjorck's weights) takes far fewer
than float32's 32 as a rule; where it stalls, bisection takes over in time.
"""

import jax
import jax.numpy as jnp
from jax import lax

from sparse_regimes.masks.kernels.bits import flip_negative, ordered_bits
from sparse_regimes.masks.kernels.sharding import as_rows

# Passes beyond plain bisection's that interpolation may waste.
_SLACK = 10


def threshold_mask(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
  """Marks each row's ``num_kept`` largest.

  Args:
    scores: ``[*lead, *budget]``, any real dtype, at least one entry.
    num_kept: int32 ``[*lead]``, at least 1, at most the size of a row.

  Returns:
    bool, the shape of ``scores``.
  """
  rows, num_kept = as_rows(scores, num_kept)
  mask = _mask_rows(fold(rows), num_kept[..., None], break_zero_ties=True)
  return mask.reshape(scores.shape)


def threshold_mask_but_for_zeros(
  scores: jax.Array, num_kept: jax.Array
) -> jax.Array:
  """The same, but if a row's last kept entry is a zero, all its zeros are.

  Enough, and faster, where zeros are not told apart.
  """
  rows, num_kept = as_rows(scores, num_kept)
  mask = _mask_rows(fold(rows), num_kept[..., None], break_zero_ties=False)
  return mask.reshape(scores.shape)


def _mask_rows(
  rows: jax.Array, num_kept: jax.Array, *, break_zero_ties: bool
) -> jax.Array:
  keys = ordered_bits(rows)
  threshold, num_reached, _ = search(
    keys, num_kept, bounds=find_bounds(rows, keys.dtype), dtype=rows.dtype
  )

  def break_ties() -> jax.Array:
    tied = keys == threshold
    num_wanted = num_kept - (num_reached - _count(tied))
    return (keys > threshold) | (tied & _is_among_first(tied, num_wanted))

  straddled = num_reached != num_kept
  if not break_zero_ties:
    straddled &= threshold != 0
  # Only where equal scores straddle the budget does their order matter.
  return lax.cond(jnp.any(straddled), break_ties, lambda: keys >= threshold)


def search(
  keys: jax.Array,
  num_kept: jax.Array,
  *,
  bounds: tuple[jax.Array, jax.Array],
  dtype: jnp.dtype,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The largest t with ``count(keys >= t) >= num_kept``, or any with equality.

  Args:
    keys: ordered bits, folded: ``[r, w, m]``, a budget to each row.
    num_kept: int32 ``[r, 1, 1]``.
    bounds: keys that none is below and none is above, ``[r, 1, 1]``.
    dtype: of the scores that the keys stand for.

  Returns:
    The threshold and the count it reaches, ``[r, 1, 1]``, and the number of
    passes it took until every row was done.
  """
  num_bits = keys.dtype.itemsize * 8
  size = keys.shape[-2] * keys.shape[-1]
  unsigned = jnp.dtype(f"uint{num_bits}")
  one = jnp.ones((), keys.dtype)

  def log_excess(count: jax.Array) -> jax.Array:
    half = jnp.float32(0.5)
    return jnp.log(count.astype(jnp.float32) + half) - jnp.log(
      num_kept.astype(jnp.float32) + half
    )

  low, high = bounds
  # Like the bounds, so that within shard_map they vary as these do.
  none = jnp.zeros_like(low, jnp.int32)
  reached = jnp.full_like(low, size, jnp.int32)
  # low <= t <= high, count(keys >= low) == reached >= num_kept. The weights are
  # the signed excesses at the ends, lessened where an end stays put.
  state = (
    jnp.zeros((), jnp.int32),
    low,
    high,
    reached,
    log_excess(reached),
    log_excess(none),
    none,
  )

  def is_open(low, high, reached):
    return (reached != num_kept) & (low != high)

  def unfinished(state):
    _, low, high, reached, *_ = state
    return jnp.any(is_open(low, high, reached))

  def refine(state):
    step, low, high, reached, weight_low, weight_high, side = state
    span = lax.bitcast_convert_type(high, unsigned) - (
      lax.bitcast_convert_type(low, unsigned)
    )
    half = lax.shift_right_logical(span, jnp.ones((), unsigned))
    middle = low + lax.bitcast_convert_type(half, keys.dtype) + one

    value_low, value_high = _values(low, dtype), _values(high, dtype)
    fraction = weight_low / (weight_low - weight_high)
    value = value_low + (value_high - value_low) * fraction
    guess = _keys(value, dtype, keys.dtype)
    # After i passes at most 2**(bits + slack - i) keys may be left open, so a
    # row is done after bits + slack passes at the latest.
    allowed = jnp.exp2((num_bits - 1 + _SLACK - step).astype(jnp.float32))
    trusted = jnp.isfinite(value) & (span.astype(jnp.float32) <= allowed)
    pivot = jnp.where(trusted, guess, middle)
    # Zero is where ReLU piles up: settle first what lies above it, and then,
    # where that is too little, what lies at it.
    pivot = jnp.where(step == 0, one, pivot)
    pivot = jnp.where((step == 1) & (high == 0), one - one, pivot)
    pivot = jnp.clip(pivot, low + (low != high).astype(keys.dtype), high)

    count = _count(keys >= pivot)
    up = count >= num_kept
    excess = log_excess(count)
    now = jnp.where(up, jnp.int32(1), jnp.int32(-1))
    weight_before = jnp.where(up, weight_low, weight_high)
    shrink = 1 - excess / weight_before
    shrink = jnp.where(shrink > 0, shrink, jnp.float32(0.5))
    shrink = jnp.where(side == now, shrink, jnp.float32(1))
    new = (
      jnp.where(up, pivot, low),
      jnp.where(up, high, pivot - one),
      jnp.where(up, count, reached),
      jnp.where(up, excess, weight_low * shrink),
      jnp.where(up, weight_high * shrink, excess),
      now,
    )
    still_open = is_open(low, high, reached)
    old = (low, high, reached, weight_low, weight_high, side)
    kept = (jnp.where(still_open, a, b) for a, b in zip(new, old, strict=True))
    return (step + 1, *kept)

  passes, threshold, _, reached, *_ = lax.while_loop(unfinished, refine, state)
  return threshold, reached, passes


def find_bounds(
  rows: jax.Array, signed: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
  """Keys below and above every key, tight if the scores are finite floats.

  From the floats: on CPU an integer minimum is some thirty times slower.
  """
  info = jnp.iinfo(signed)
  lowest, highest = (jnp.array(b, signed) for b in (info.min, info.max))
  if not jnp.issubdtype(rows.dtype, jnp.floating):
    like = rows[..., :1, :1].astype(signed)
    return jnp.full_like(like, lowest), jnp.full_like(like, highest)
  least = jnp.min(rows, axis=(-2, -1), keepdims=True)
  most = jnp.max(rows, axis=(-2, -1), keepdims=True)
  # A minimum may take -0 for +0, and a denormal for either.
  tiny = jnp.finfo(rows.dtype).tiny
  least = jnp.where(jnp.abs(least) < tiny, -tiny, least)
  most = jnp.where(jnp.abs(most) < tiny, tiny, most)
  return (
    jnp.where(jnp.isnan(least), lowest, ordered_bits(least)),
    jnp.where(jnp.isnan(most), highest, ordered_bits(most)),
  )


def _count(marked: jax.Array) -> jax.Array:
  """Counts over the last two axes, ``[..., w, m] -> [..., 1, 1]``.

  First down the columns in int8 (w is at most 127), which vectorises: on CPU
  about three times as fast as one int32 sum.
  """
  columns = jnp.sum(marked, axis=-2, keepdims=True, dtype=jnp.int8)
  return jnp.sum(columns, axis=-1, keepdims=True, dtype=jnp.int32)


def _is_among_first(marked: jax.Array, num_wanted: jax.Array) -> jax.Array:
  """True up to the ``num_wanted``-th marked entry in row-major order.

  A prefix sum over everything is slow on CPU. The one row of the fold in which
  the count is reached is found first, and summed alone.

  Args:
    marked: bool ``[..., w, m]``, with at least ``num_wanted`` true.
    num_wanted: int32 ``[..., 1, 1]``, at least 1.
  """
  w, m = marked.shape[-2:]
  up_to_row = jnp.cumsum(
    jnp.sum(marked, axis=-1, keepdims=True, dtype=jnp.int32), axis=-2
  )
  row = jnp.sum(up_to_row < num_wanted, axis=-2, keepdims=True, dtype=jnp.int32)
  in_row = jnp.take_along_axis(marked, row, axis=-2)
  rows_before = jnp.take_along_axis(up_to_row, jnp.maximum(row - 1, 0), axis=-2)
  before = jnp.where(row > 0, rows_before, 0)
  up_to_column = before + jnp.cumsum(in_row, axis=-1, dtype=jnp.int32)
  column = jnp.sum(
    up_to_column < num_wanted, axis=-1, keepdims=True, dtype=jnp.int32
  )
  index = jnp.arange(w * m, dtype=jnp.int32)
  index = index.reshape((1,) * (marked.ndim - 2) + (w, m))
  return index <= row * m + column


def fold(rows: jax.Array) -> jax.Array:
  """``[r, d]`` as ``[r, w, m]``, w at most 127, a budget to each row."""
  size = rows.shape[1]
  # Long columns save work, rows of fewer than 64 lanes waste it.
  most = min(127, max(1, size // 64))
  w = max(n for n in range(1, most + 1) if size % n == 0)
  return rows.reshape(-1, w, size // w)


def _values(keys: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """The numbers that keys stand for, in float32."""
  if not jnp.issubdtype(dtype, jnp.floating):
    return keys.astype(jnp.float32)
  bits = flip_negative(keys)
  return lax.bitcast_convert_type(bits, dtype).astype(jnp.float32)


def _keys(values: jax.Array, dtype: jnp.dtype, signed: jnp.dtype) -> jax.Array:
  """The keys of float32 numbers, rounded to the dtype of the scores."""
  if not jnp.issubdtype(dtype, jnp.floating):
    return values.astype(signed)
  return ordered_bits(values.astype(dtype))
