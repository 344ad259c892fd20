"""What a block of threads of a GPU does with its row; see ``pallas_gpu``."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparse_regimes.masks.kernels.bits import flip_negative, ordered_bits

# Entries of a line of shared memory.
LINE = 256


def search_block(
  rows,
  num_kept,
  threshold_out,
  last_out,
  *kept_out_and_digits,
  lines: int,
  chunk: int,
  num_bits: int,
  digit_bits: int,
  break_zero_ties: bool,
  interpret: bool,
):
  """Searches a row, and writes where its budget ends; see ``search``.

  Args:
    rows: all of them, ``[r, lines, LINE]``, in the GPU's memory.
    num_kept: int32 ``[r]``.
    threshold_out: int32 ``[r]``.
    last_out: int32 ``[r]``.
    *kept_out_and_digits: where to write what is kept, if that is wanted; and
      shared memory, ``[lines, LINE]``.
    lines: of a row.
    chunk: lines that are held in registers.
    num_bits: of a score.
    digit_bits: of what shared memory holds of each; as many, or 16.
    break_zero_ties: whether equal zeros are told apart.
    interpret: whether Pallas interprets it.
  """
  *kept_out, digits = kept_out_and_digits
  number = lax.axis_index("row")
  kept = num_kept[number]
  shape = (chunk, LINE)
  lowest = -(2 ** (digit_bits - 1))

  def as_read(x, num_bits):
    """As the threads of a block share lines that they read: 8 bytes each."""
    layout = plgpu.Layout.WG_STRIDED(shape, vec_size=64 // num_bits)
    # The interpreter has no threads, and no word for how they share.
    return x if interpret else plgpu.layout_cast(x, layout)

  def first_index(num_bits):
    line, column = (
      as_read(lax.broadcasted_iota(jnp.int32, shape, axis), num_bits)
      for axis in (0, 1)
    )
    return line * LINE + column

  zeros = as_read(jnp.zeros(shape, jnp.int32), digit_bits)

  def count(is_marked):
    """Counts what is in shared memory."""

    def add(i, total):
      some = digits[pl.ds(i * chunk, chunk), :].astype(jnp.int32)
      return total + is_marked(some, i).astype(jnp.int32)

    return jnp.sum(loop(lines // chunk, add, zeros), dtype=jnp.int32)

  def store(digit_of):
    """Reads the row, and keeps a digit of every entry."""

    def put(i, _):
      where = pl.ds(i * chunk, chunk)
      digit = digit_of(keys_of(rows[number, where, :]))
      digits[where, :] = digit.astype(digits.dtype)
      return _

    loop(lines // chunk, put, None)
    plgpu.commit_smem()

  def bisect(wanted):
    """The largest t with ``count(digits >= t) >= wanted``."""

    def refine(i, threshold):
      higher = threshold + lax.shift_left(jnp.int32(1), digit_bits - 1 - i)
      above = count(lambda digit, _: digit >= higher)
      return jnp.where(above >= wanted, higher, threshold)

    return loop(digit_bits, refine, jnp.int32(lowest))

  is_whole = num_bits == digit_bits
  if is_whole:
    store(lambda keys: keys)
    threshold = lower = bisect(kept)
    num_above = count(lambda digit, _: digit > lower)
  else:
    store(lambda keys: lax.shift_right_arithmetic(keys, jnp.int32(16)))
    upper = bisect(kept)
    num_above = count(lambda digit, _: digit > upper)

    def lower_digit(keys):
      is_in = lax.shift_right_arithmetic(keys, jnp.int32(16)) == upper
      # What is not in question is below every pivot.
      lower = (keys & jnp.int32(0xFFFF)) + jnp.int32(lowest)
      return jnp.where(is_in, lower, jnp.int32(lowest))

    store(lower_digit)
    lower = bisect(kept - num_above)
    num_above += count(lambda digit, _: digit > lower)
    threshold = lax.shift_left(upper, jnp.int32(16)) + (lower - lowest)

  num_tied = kept - num_above
  chunk_bits = (chunk * LINE).bit_length()
  everything = jnp.int32(lines * LINE)
  index = first_index(num_bits)

  def is_tied(i):
    where = pl.ds(i * chunk, chunk)
    if is_whole:
      return digits[where, :].astype(jnp.int32) == lower
    return keys_of(rows[number, where, :]) == threshold

  def total(marked):
    return jnp.sum(marked, dtype=jnp.int32)

  def where_ties_end():
    """Among equals the first count: the chunk they end in, then the index."""

    def add(i, found):
      counted, number, before = found
      reached = counted + total(is_tied(i))
      is_here = (counted < num_tied) & (reached >= num_tied)
      number = jnp.where(is_here, i, number)
      return reached, number, jnp.where(is_here, counted, before)

    none = jnp.int32(0)
    _, number, before = loop(lines // chunk, add, (none, none, none))
    tied = is_tied(number)

    def narrow(i, last):
      fewer = last - lax.shift_left(jnp.int32(1), chunk_bits - 1 - i)
      reached = before + total(tied & (index <= fewer))
      return jnp.where(reached >= num_tied, fewer, last)

    last = loop(chunk_bits, narrow, jnp.int32(2**chunk_bits - 1))
    return number * (chunk * LINE) + last

  straddled = count(lambda digit, _: digit == lower) != num_tied
  if not break_zero_ties:
    straddled &= threshold != 0
  last = lax.cond(straddled, where_ties_end, lambda: everything)
  threshold_out[number] = threshold
  last_out[number] = last

  def write(i, _):
    where = pl.ds(i * chunk, chunk)
    if is_whole:
      keys = digits[where, :].astype(jnp.int32)
      bits = flip_negative(digits[where, :])
      scores = lax.bitcast_convert_type(bits, rows.dtype)
    else:
      scores = rows[number, where, :]
      keys = keys_of(scores)
    is_first = index + i * (chunk * LINE) <= last
    is_kept = (keys > threshold) | ((keys == threshold) & is_first)
    kept_out[0][number, where, :] = jnp.where(is_kept, scores, zero)
    return _

  if kept_out:
    zero = as_read(jnp.zeros(shape, rows.dtype), num_bits)
    loop(lines // chunk, write, None)


def keys_of(x: jax.Array) -> jax.Array:
  """Ordered bits, as int32."""
  return ordered_bits(x).astype(jnp.int32)


def loop(number: int, body: Any, start: Any) -> Any:
  """As ``lax.fori_loop`` from 0 on, in int32 whatever JAX counts in."""
  return lax.fori_loop(jnp.int32(0), jnp.int32(number), body, start)
