"""The threshold search in a fixed number of passes, for GPUs without a kernel.

A loop that stops when every row is done copies its condition to the host before
each pass, and waits. Here each pass counts what is at or above 15 pivots, all
in one reading of the scores, and so settles four bits of the threshold: 8
passes for 32 bits, 4 for 16. As many more settle the index up to which equals
are kept.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from sparse_regimes.masks.kernels.bits import ordered_bits, up_to
from sparse_regimes.masks.kernels.sharding import as_rows

# Bits of the answer that a pass settles.
_BITS = 4


def fixed_passes_mask(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
  """Marks each row's ``num_kept`` largest.

  Args:
    scores: ``[*lead, *budget]``, any real dtype, at least one entry.
    num_kept: int32 ``[*lead]``, at least 1, at most the size of a row.

  Returns:
    bool, the shape of ``scores``.
  """
  keys = ordered_bits(scores)
  return up_to(keys, *find_ends(keys, num_kept), num_kept.ndim)


def find_ends(
  keys: jax.Array, num_kept: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Where each row's budget ends.

  Args:
    keys: signed integers ``[*lead, *budget]``, of which larger ones come first.
    num_kept: int32 ``[*lead]``, as above.

  Returns:
    ``(threshold, last)``, ``[*lead]``, the former of the dtype of the keys:
    kept are the keys above the threshold, and those at it up to the index
    ``last``, int32.
  """
  rows, kept = as_rows(keys, num_kept)
  signed = rows.dtype
  num_bits = signed.itemsize * 8
  lowest = jnp.full_like(kept, jnp.iinfo(signed).min, signed)
  threshold = _largest(
    lambda pivot: rows >= pivot, lambda count: count >= kept, lowest, num_bits
  )
  num_tied = kept - _counts([rows > threshold])[0]
  tied = rows == threshold
  # From the lowest number on, so that no pivot beyond the row overflows.
  first = jnp.full_like(kept, jnp.iinfo(jnp.int32).min)

  def tied_before(pivot: jax.Array) -> jax.Array:
    # Made in the loop: held outside it would be read there like the scores.
    index = first + lax.broadcasted_iota(jnp.int32, rows.shape, 1)
    return tied & (index < pivot)

  last = _largest(
    tied_before,
    lambda count: count < num_tied,
    first,
    rows.shape[1].bit_length(),
  )
  last = last - first
  return threshold.reshape(num_kept.shape), last.reshape(num_kept.shape)


def _largest(
  marked: Callable[[jax.Array], jax.Array],
  holds: Callable[[jax.Array], jax.Array],
  lowest: jax.Array,
  num_bits: int,
) -> jax.Array:
  """The largest number for which something holds.

  Args:
    marked: of a pivot ``[r, 1]``: what is to be counted, bool ``[r, d]``.
    holds: of such a count; true for the lowest pivot, false from some on.
    lowest: ``[r, 1]``, of a signed dtype.
    num_bits: the number is less than ``lowest + 2**num_bits``.
  """
  num_passes = -(-num_bits // _BITS)

  def settle(i: jax.Array, number: jax.Array) -> jax.Array:
    shift = (_BITS * (num_passes - 1 - i)).astype(number.dtype)
    pivots = [
      number + lax.shift_left(jnp.array(j, number.dtype), shift)
      for j in range(1, 2**_BITS)
    ]
    counts = _counts([marked(pivot) for pivot in pivots])
    digit = jnp.zeros_like(number)
    for count in counts:
      digit += holds(count).astype(number.dtype)
    return number + lax.shift_left(digit, jnp.broadcast_to(shift, digit.shape))

  return lax.fori_loop(0, num_passes, settle, lowest)


def _counts(marked: list[jax.Array]) -> list[jax.Array]:
  """Counts of ``[r, d]``, ``[r, 1]``, by one reduction: read once for all."""
  ones = tuple(x.astype(jnp.int32) for x in marked)
  counts = lax.reduce(
    ones,
    tuple(jnp.int32(0) for _ in ones),
    lambda a, b: tuple(map(lax.add, a, b)),
    (1,),
  )
  return [count[:, None] for count in counts]
