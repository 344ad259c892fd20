"""The threshold search on a GPU: a block a row, which never asks the host.

As XLA programs the passes of a search are a loop whose condition is copied to
the host before every pass. Here a block of threads reads its row once, keeps
its ordered bits in shared memory, bisects them there in a loop of a fixed
number of passes, and writes two numbers. The mask itself is elementwise, and
XLA fuses it with its neighbours, as on TPU.

Rows that do not fit in shared memory are searched in two digits of 16 bits: the
upper ones of all entries, then the lower ones of those that have the upper
digit in which the budget ends. That reads the row twice.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparse_regimes.masks.kernels.bits import ordered_bits, up_to
from sparse_regimes.masks.kernels.sharding import as_rows
from sparse_regimes.masks.kernels.threshold import (
  threshold_mask,
  threshold_mask_but_for_zeros,
)
from sparse_regimes.masks.manual_axes import shape_like

# Entries of a line, and lines that a warp group counts at a time in registers.
_LINE, _LINES = 256, 16
_CHUNK = _LINE * _LINES
# Of the 227 KiB of shared memory that a block of a Hopper GPU may have.
_MAX_BYTES = 220 * 1024
# Every entry needs a digit of 16 bits at least.
MAX_SIZE = _MAX_BYTES // 2 // _CHUNK * _CHUNK
_FLOATS = (jnp.float32, jnp.bfloat16, jnp.float16)


def why_not(size: int, dtype: jnp.dtype) -> str:
  """What the kernel needs for such rows, and there is not; else nothing."""
  if size > MAX_SIZE or not any(dtype == f for f in _FLOATS):
    return (
      f"rows of float32, bfloat16 or float16 of up to {MAX_SIZE} entries, got"
      f" {size} of {dtype}"
    )
  found = _device()
  if found not in _DEVICES:
    return f"an NVIDIA GPU of compute capability 9.0 (Hopper), got {found}"
  return ""


# Compute capabilities, and names of devices that are compiled for from afar.
_DEVICES = ("9.0",)
_KINDS = ("H100", "H200", "GH200")


def _device() -> str:
  """The compute capability in force, or else the platform."""
  mesh = jax.sharding.get_abstract_mesh()
  described = getattr(mesh, "abstract_device", None)
  if described is not None:
    kind = described.device_kind
    return "9.0" if any(name in kind for name in _KINDS) else kind
  if jax.default_backend() != "gpu":
    return jax.default_backend()
  return str(jax.local_devices()[0].compute_capability)


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


def kernel_mask(
  scores: jax.Array,
  num_kept: jax.Array,
  *,
  break_zero_ties: bool,
  interpret: Any = None,
) -> jax.Array:
  """The mask by the kernel; see :func:`search`."""
  threshold, last = search(
    *as_rows(scores, num_kept),
    break_zero_ties=break_zero_ties,
    interpret=interpret,
  )
  return up_to(_keys(scores), threshold, last, num_kept.ndim)


def _keys(x: jax.Array) -> jax.Array:
  """Ordered bits, as int32."""
  return ordered_bits(x).astype(jnp.int32)


def search(
  rows: jax.Array,
  num_kept: jax.Array,
  *,
  break_zero_ties: bool = True,
  interpret: Any = None,
) -> tuple[jax.Array, jax.Array]:
  """Where each row's budget ends.

  Args:
    rows: ``[r, d]``.
    num_kept: int32 ``[r, 1]``.
    break_zero_ties: whether equal zeros are told apart.
    interpret: how Pallas interprets it, where there is no such GPU.

  Returns:
    ``(threshold, last)``, int32 ``[r]`` each: kept are the entries whose key is
    above the threshold, and those at it up to the index ``last``.
  """
  num_rows, size = rows.shape
  num_bits = rows.dtype.itemsize * 8
  if pad := -size % _CHUNK:
    # It sorts below everything and comes last, so it is never kept.
    bits = jnp.dtype(f"int{num_bits}")
    lowest = lax.bitcast_convert_type(jnp.array(-1, bits), rows.dtype)
    rows = lax.pad(rows, lowest, [(0, 0, 0), (0, pad, 0)])
  lines = rows.shape[1] // _LINE
  # One digit if all bits of every entry fit, else one of 16 after another.
  digit_bits = num_bits if rows.shape[1] * num_bits // 8 <= _MAX_BYTES else 16
  result = shape_like(rows, (num_rows,), jnp.int32)
  kernel = plgpu.kernel(
    functools.partial(
      _kernel,
      lines=lines,
      num_bits=num_bits,
      digit_bits=digit_bits,
      break_zero_ties=break_zero_ties,
      interpret=interpret is not None,
    ),
    out_type=[result, result],
    scratch_types=[plgpu.SMEM((lines, _LINE), jnp.dtype(f"int{digit_bits}"))],
    grid=(num_rows,),
    grid_names=("row",),
    interpret=interpret,
  )
  return kernel(rows.reshape(num_rows, lines, _LINE), num_kept[:, 0])


def _kernel(
  rows,
  num_kept,
  threshold_out,
  last_out,
  digits,
  *,
  lines: int,
  num_bits: int,
  digit_bits: int,
  break_zero_ties: bool,
  interpret: bool,
):
  number = lax.axis_index("row")
  kept = num_kept[number]
  shape = (_LINES, _LINE)
  lowest = -(2 ** (digit_bits - 1))

  # How the threads of a block share some lines that they read: 8 bytes each.
  layout = plgpu.Layout.WG_STRIDED(shape, vec_size=64 // digit_bits)

  def as_read(x):
    # The interpreter has no threads, and no word for how they share.
    return x if interpret else plgpu.layout_cast(x, layout)

  zeros = as_read(jnp.zeros(shape, jnp.int32))
  line, column = (
    as_read(lax.broadcasted_iota(jnp.int32, shape, axis)) for axis in (0, 1)
  )

  def count(is_marked):
    """Counts what is in shared memory."""

    def add(i, total):
      some = digits[pl.ds(i * _LINES, _LINES), :].astype(jnp.int32)
      return total + is_marked(some, i).astype(jnp.int32)

    return jnp.sum(lax.fori_loop(0, lines // _LINES, add, zeros))

  def store(digit_of):
    """Reads the row, and keeps a digit of every entry."""

    def put(i, _):
      where = pl.ds(i * _LINES, _LINES)
      digit = digit_of(_keys(rows[number, where, :]))
      digits[where, :] = digit.astype(digits.dtype)
      return _

    lax.fori_loop(0, lines // _LINES, put, None)
    plgpu.commit_smem()

  def bisect(wanted):
    """The largest t with ``count(digits >= t) >= wanted``."""

    def refine(i, threshold):
      higher = threshold + lax.shift_left(jnp.int32(1), digit_bits - 1 - i)
      above = count(lambda digit, _: digit >= higher)
      return jnp.where(above >= wanted, higher, threshold)

    return lax.fori_loop(0, digit_bits, refine, jnp.int32(lowest))

  if num_bits == digit_bits:
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
  last_bit = (lines * _LINE).bit_length()
  everything = jnp.int32(2**last_bit - 1)

  def where_ties_end():
    """Among equals the first count: bisection of the index, too."""
    store(lambda keys: (keys == threshold).astype(jnp.int32))

    def narrow(i, last):
      fewer = last - lax.shift_left(jnp.int32(1), last_bit - 1 - i)

      def is_first(tied, i):
        return (tied != 0) & ((line + i * _LINES) * _LINE + column <= fewer)

      return jnp.where(count(is_first) >= num_tied, fewer, last)

    return lax.fori_loop(0, last_bit, narrow, everything)

  straddled = count(lambda digit, _: digit == lower) != num_tied
  if not break_zero_ties:
    straddled &= threshold != 0
  threshold_out[number] = threshold
  last_out[number] = lax.cond(straddled, where_ties_end, lambda: everything)


def shared_bytes(size: int, dtype: jnp.dtype) -> int:
  """Shared memory of a block that searches such a row, in bytes."""
  padded = size + -size % _CHUNK
  num_bytes = padded * dtype.itemsize
  return num_bytes if num_bytes <= _MAX_BYTES else 2 * padded
