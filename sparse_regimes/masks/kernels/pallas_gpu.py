"""The threshold search on a GPU: a block a row, which never asks the host.

As XLA programs the passes of a search are a loop whose condition is copied to
the host before every pass. Here a block of threads reads its row once, keeps
its ordered bits in shared memory, bisects them there in a loop of a fixed
number of passes, and writes two numbers and, where it is asked to, the row with
zeros for what is not kept.

Rows that do not fit in shared memory are searched in two digits of 16 bits: the
upper ones of all entries, then the lower ones of those that have the upper
digit in which the budget ends. That reads the row three times.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparse_regimes.masks.kernels.bits import (
  flip_negative,
  ordered_bits,
  up_to,
)
from sparse_regimes.masks.kernels.fixed_passes import find_ends
from sparse_regimes.masks.kernels.sharding import as_rows
from sparse_regimes.masks.kernels.threshold import (
  threshold_mask,
  threshold_mask_but_for_zeros,
)
from sparse_regimes.masks.manual_axes import vary, varying_axes

# Entries of a line, and lines that a warp group counts at a time in registers:
# the more, the less it waits for. A thread reads 8 bytes of them at least.
_LINE, _CHUNKS = 256, (16, 8, 4, 2)
# Of the 227 KiB of shared memory that a block of a Hopper GPU may have.
_MAX_BYTES = 220 * 1024
# Every entry needs a digit of 16 bits at least.
MAX_SIZE = _MAX_BYTES // 2 // (16 * _LINE) * 16 * _LINE
# Shorter rows would be filled up to more than twice their length.
MIN_SIZE = 256
_FLOATS = (jnp.float32, jnp.bfloat16, jnp.float16)


def why_not(size: int, dtype: jnp.dtype) -> str:
  """What the kernel needs for such rows, and there is not; else nothing."""
  if not MIN_SIZE <= size <= MAX_SIZE or not any(dtype == f for f in _FLOATS):
    return (
      f"rows of float32, bfloat16 or float16 of {MIN_SIZE} to {MAX_SIZE}"
      f" entries, got {size} of {dtype}"
    )
  platform, kind = device()
  if kind not in _DEVICES:
    got = kind if platform == "gpu" else platform
    return f"an NVIDIA GPU of compute capability 9.0 (Hopper), got {got}"
  return ""


# Compute capabilities, and names of devices that are compiled for from afar.
_DEVICES = ("9.0",)
_KINDS = ("H100", "H200", "GH200")


def device() -> tuple[str, str]:
  """The platform that is compiled for, and a GPU's compute capability.

  Of a GPU that is compiled for from afar and not known it is the name.
  """
  mesh = jax.sharding.get_abstract_mesh()
  described = getattr(mesh, "abstract_device", None)
  if described is not None:
    kind = described.device_kind
    is_known = any(name in kind for name in _KINDS)
    return described.platform, "9.0" if is_known else kind
  platform = jax.default_backend()
  if platform != "gpu":
    return platform, ""
  return platform, str(jax.local_devices()[0].compute_capability)


def pallas_gpu_mask(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
  """Marks each row's ``num_kept`` largest.

  Lowered for another platform it is the search in XLA.

  Args:
    scores: ``[*lead, *budget]``, at least one entry; float32, bfloat16 or
      float16.
    num_kept: int32 ``[*lead]``, at least 1, at most the size of a row.

  Returns:
    bool, the shape of ``scores``.
  """
  kernel = functools.partial(kernel_mask, break_zero_ties=True)
  return lax.platform_dependent(
    scores, num_kept, cuda=kernel, default=threshold_mask
  )


def pallas_gpu_mask_but_for_zeros(
  scores: jax.Array, num_kept: jax.Array
) -> jax.Array:
  """The same, but if a row's last kept entry is a zero, all its zeros are."""
  kernel = functools.partial(kernel_mask, break_zero_ties=False)
  return lax.platform_dependent(
    scores, num_kept, cuda=kernel, default=threshold_mask_but_for_zeros
  )


def pallas_gpu_kept(
  scores: jax.Array, num_kept: jax.Array
) -> tuple[jax.Array, ...]:
  """What is kept, and where each row's budget ends.

  The kernel writes what is kept from what it holds, so that nothing is read
  again; the ends are all that a backward pass needs to know of the mask.

  Returns:
    The scores, of which all but each row's ``num_kept`` largest are zeros; and
    the ends of :func:`search`, ``[*lead]``.
  """
  kernel = functools.partial(kernel_kept, break_zero_ties=True)
  return lax.platform_dependent(
    scores, num_kept, cuda=kernel, default=_kept_in_fixed_passes
  )


def pallas_gpu_kept_but_for_zeros(
  scores: jax.Array, num_kept: jax.Array
) -> tuple[jax.Array, ...]:
  """The same, but if a row's last kept entry is a zero, all its zeros are."""
  kernel = functools.partial(kernel_kept, break_zero_ties=False)
  return lax.platform_dependent(
    scores, num_kept, cuda=kernel, default=_kept_in_fixed_passes
  )


def _kept_in_fixed_passes(
  scores: jax.Array, num_kept: jax.Array
) -> tuple[jax.Array, ...]:
  ends = find_ends(_keys(scores), num_kept)
  mask = mask_up_to(scores, *ends)
  return jnp.where(mask, scores, jnp.zeros((), scores.dtype)), *ends


def mask_up_to(
  scores: jax.Array, threshold: jax.Array, last: jax.Array
) -> jax.Array:
  """The mask of the scores, given where each row's budget ends."""
  return up_to(_keys(scores), threshold, last, threshold.ndim)


def kernel_kept(
  scores: jax.Array,
  num_kept: jax.Array,
  *,
  break_zero_ties: bool,
  interpret: Any = None,
) -> tuple[jax.Array, ...]:
  """What is kept and the ends, by the kernel; see :func:`search`."""
  *ends, kept = search(
    *as_rows(scores, num_kept),
    break_zero_ties=break_zero_ties,
    writes_kept=True,
    interpret=interpret,
  )
  return kept.reshape(scores.shape), *(x.reshape(num_kept.shape) for x in ends)


def kernel_mask(
  scores: jax.Array,
  num_kept: jax.Array,
  *,
  break_zero_ties: bool,
  interpret: Any = None,
) -> jax.Array:
  """The mask by the kernel; see :func:`search`."""
  ends = search(
    *as_rows(scores, num_kept),
    break_zero_ties=break_zero_ties,
    interpret=interpret,
  )
  return mask_up_to(scores, *(x.reshape(num_kept.shape) for x in ends))


def _keys(x: jax.Array) -> jax.Array:
  """Ordered bits, as int32."""
  return ordered_bits(x).astype(jnp.int32)


def search(
  rows: jax.Array,
  num_kept: jax.Array,
  *,
  break_zero_ties: bool = True,
  writes_kept: bool = False,
  interpret: Any = None,
) -> tuple[jax.Array, ...]:
  """Where each row's budget ends.

  Args:
    rows: ``[r, d]``.
    num_kept: int32 ``[r, 1]``.
    break_zero_ties: whether equal zeros are told apart.
    writes_kept: whether to write the rows with zeros for what is not kept.
    interpret: how Pallas interprets it, where there is no such GPU.

  Returns:
    ``(threshold, last)``, int32 ``[r]`` each: kept are the entries whose key is
    above the threshold, and those at it up to the index ``last``. And what is
    kept, ``[r, d]``, if it is to be written.
  """
  num_rows, size = rows.shape
  num_bits = rows.dtype.itemsize * 8
  chunk = _lines_at_a_time(size)
  if pad := _padded(size) - size:
    # It sorts below everything and comes last, so it is never kept.
    bits = jnp.dtype(f"int{num_bits}")
    lowest = lax.bitcast_convert_type(jnp.array(-1, bits), rows.dtype)
    rows = lax.pad(rows, lowest, [(0, 0, 0), (0, pad, 0)])
  lines = rows.shape[1] // _LINE
  # One digit if all bits of every entry fit, else one of 16 after another.
  digit_bits = num_bits if rows.shape[1] * num_bits // 8 <= _MAX_BYTES else 16
  results = [jax.ShapeDtypeStruct((num_rows,), jnp.int32)] * 2
  folded = (num_rows, lines, _LINE)
  if writes_kept:
    results.append(jax.ShapeDtypeStruct(folded, rows.dtype))
  kernel = plgpu.kernel(
    functools.partial(
      _kernel,
      lines=lines,
      chunk=chunk,
      num_bits=num_bits,
      digit_bits=digit_bits,
      break_zero_ties=break_zero_ties,
      interpret=interpret is not None,
    ),
    out_type=results,
    scratch_types=[plgpu.SMEM((lines, _LINE), jnp.dtype(f"int{digit_bits}"))],
    grid=(num_rows,),
    grid_names=("row",),
    interpret=interpret,
  )
  found = kernel(rows.reshape(folded), num_kept[:, 0])
  # What a kernel returns does not say over which axes of a shard_map it varies.
  threshold, last, *kept = (vary(x, varying_axes(rows)) for x in found)
  return threshold, last, *(k.reshape(num_rows, -1)[:, :size] for k in kept)


def _kernel(
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
  *kept_out, digits = kept_out_and_digits
  number = lax.axis_index("row")
  kept = num_kept[number]
  shape = (chunk, _LINE)
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
    return line * _LINE + column

  zeros = as_read(jnp.zeros(shape, jnp.int32), digit_bits)

  def count(is_marked):
    """Counts what is in shared memory."""

    def add(i, total):
      some = digits[pl.ds(i * chunk, chunk), :].astype(jnp.int32)
      return total + is_marked(some, i).astype(jnp.int32)

    return jnp.sum(_loop(lines // chunk, add, zeros), dtype=jnp.int32)

  def store(digit_of):
    """Reads the row, and keeps a digit of every entry."""

    def put(i, _):
      where = pl.ds(i * chunk, chunk)
      digit = digit_of(_keys(rows[number, where, :]))
      digits[where, :] = digit.astype(digits.dtype)
      return _

    _loop(lines // chunk, put, None)
    plgpu.commit_smem()

  def bisect(wanted):
    """The largest t with ``count(digits >= t) >= wanted``."""

    def refine(i, threshold):
      higher = threshold + lax.shift_left(jnp.int32(1), digit_bits - 1 - i)
      above = count(lambda digit, _: digit >= higher)
      return jnp.where(above >= wanted, higher, threshold)

    return _loop(digit_bits, refine, jnp.int32(lowest))

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
  chunk_bits = (chunk * _LINE).bit_length()
  everything = jnp.int32(lines * _LINE)
  index = first_index(num_bits)

  def is_tied(i):
    where = pl.ds(i * chunk, chunk)
    if is_whole:
      return digits[where, :].astype(jnp.int32) == lower
    return _keys(rows[number, where, :]) == threshold

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
    _, number, before = _loop(lines // chunk, add, (none, none, none))
    tied = is_tied(number)

    def narrow(i, last):
      fewer = last - lax.shift_left(jnp.int32(1), chunk_bits - 1 - i)
      reached = before + total(tied & (index <= fewer))
      return jnp.where(reached >= num_tied, fewer, last)

    last = _loop(chunk_bits, narrow, jnp.int32(2**chunk_bits - 1))
    return number * (chunk * _LINE) + last

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
      keys = _keys(scores)
    is_first = index + i * (chunk * _LINE) <= last
    is_kept = (keys > threshold) | ((keys == threshold) & is_first)
    kept_out[0][number, where, :] = jnp.where(is_kept, scores, zero)
    return _

  if kept_out:
    zero = as_read(jnp.zeros(shape, rows.dtype), num_bits)
    _loop(lines // chunk, write, None)


def _loop(number: int, body: Any, start: Any) -> Any:
  """As ``lax.fori_loop`` from 0 on, in int32 whatever JAX counts in."""
  return lax.fori_loop(jnp.int32(0), jnp.int32(number), body, start)


def shared_bytes(size: int, dtype: jnp.dtype) -> int:
  """Shared memory of a block that searches such a row, in bytes."""
  padded = _padded(size)
  num_bytes = padded * dtype.itemsize
  return num_bytes if num_bytes <= _MAX_BYTES else 2 * padded


def _lines_at_a_time(size: int) -> int:
  """As many as go into a row that is filled up by a sixteenth at most."""
  for lines in _CHUNKS:
    if -size % (lines * _LINE) <= size // 16:
      return lines
  return _CHUNKS[-1]


def _padded(size: int) -> int:
  chunk = _lines_at_a_time(size) * _LINE
  return size + -size % chunk
