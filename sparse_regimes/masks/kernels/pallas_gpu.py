"""The threshold search on a GPU: a block a row, which never asks the host.

As XLA programs the passes of a search are a loop whose condition is copied to
the host before every pass. Here a block of threads reads its row once, keeps
its ordered bits in shared memory, bisects them there in a loop of a fixed
number of passes, and writes two numbers and, where it is asked to, the row with
zeros for what is not kept.

Rows that do not fit in shared memory are searched in two digits of 16 bits: the
upper ones of all entries, then the lower ones of those that have the upper
digit in which the budget ends. That reads the row three times.

Rows that fit in the registers of more threads are searched there instead, in
such digits too: a pass then reads nothing; see ``gpu_registers``.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparse_regimes.masks.kernels.bits import up_to
from sparse_regimes.masks.kernels.fixed_passes import find_ends
from sparse_regimes.masks.kernels.gpu_block import LINE, keys_of, search_block
from sparse_regimes.masks.kernels.gpu_registers import (
  THREADS,
  Split,
  search_registers,
)
from sparse_regimes.masks.kernels.sharding import as_rows
from sparse_regimes.masks.kernels.threshold import (
  threshold_mask,
  threshold_mask_but_for_zeros,
)
from sparse_regimes.masks.manual_axes import vary, varying_axes

# Lines that a warp group counts at a time in registers: the more, the less it
# waits for. A thread reads 8 bytes of them at least.
_CHUNKS = (16, 8, 4, 2)
# Warp groups, of 128 threads each, that share a row that fits in registers, at
# most; 0 to hold every row in shared memory.
WARP_GROUPS = 8
# What fits: a thread has 65,536 registers over the number of threads, at most
# 255, and they hold two entries each; half of them are needed otherwise.
_MAX_HELD = 512
# Of the 227 KiB of shared memory that a block of a Hopper GPU may have.
_MAX_BYTES = 220 * 1024
# Every entry needs a digit of 16 bits at least.
MAX_SIZE = _MAX_BYTES // 2 // (16 * LINE) * 16 * LINE
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
  ends = find_ends(keys_of(scores), num_kept)
  mask = mask_up_to(scores, *ends)
  return jnp.where(mask, scores, jnp.zeros((), scores.dtype)), *ends


def mask_up_to(
  scores: jax.Array, threshold: jax.Array, last: jax.Array
) -> jax.Array:
  """The mask of the scores, given where each row's budget ends."""
  return up_to(keys_of(scores), threshold, last, threshold.ndim)


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
  if pad := _padded(size) - size:
    # It sorts below everything and comes last, so it is never kept.
    bits = jnp.dtype(f"int{num_bits}")
    lowest = lax.bitcast_convert_type(jnp.array(-1, bits), rows.dtype)
    rows = lax.pad(rows, lowest, [(0, 0, 0), (0, pad, 0)])
  lines = rows.shape[1] // LINE
  results = [jax.ShapeDtypeStruct((num_rows,), jnp.int32)] * 2
  folded = (num_rows, lines, LINE)
  if writes_kept:
    results.append(jax.ShapeDtypeStruct(folded, rows.dtype))
  options: dict[str, Any] = {
    "num_bits": num_bits,
    "break_zero_ties": break_zero_ties,
    "interpret": interpret is not None,
  }
  threads: dict[str, Any] = {}
  if split := split_of(size):
    body = functools.partial(
      search_registers, split=split, writes_kept=writes_kept, **options
    )
    scratch = split.scratch(interpret is not None)
    threads = {
      "num_threads": split.groups,
      "thread_name": "group",
      # Where threads wait for each other it says so itself.
      "compiler_params": plgpu.CompilerParams(unsafe_no_auto_barriers=True),
    }
  else:
    # One digit if all bits of every entry fit, else one of 16 after another.
    fits = rows.shape[1] * num_bits // 8 <= _MAX_BYTES
    digit_bits = num_bits if fits else 16
    body = functools.partial(
      search_block,
      lines=lines,
      chunk=_lines_at_a_time(size),
      digit_bits=digit_bits,
      **options,
    )
    scratch = [plgpu.SMEM((lines, LINE), jnp.dtype(f"int{digit_bits}"))]
  kernel = plgpu.kernel(
    body,
    out_type=results,
    scratch_types=scratch,
    grid=(num_rows,),
    grid_names=("row",),
    interpret=interpret,
    **threads,
  )
  found = kernel(rows.reshape(folded), num_kept[:, 0])
  # What a kernel returns does not say over which axes of a shard_map it varies.
  threshold, last, *kept = (vary(x, varying_axes(rows)) for x in found)
  return threshold, last, *(k.reshape(num_rows, -1)[:, :size] for k in kept)


def shared_bytes(size: int, dtype: jnp.dtype) -> int:
  """Shared memory of a block that searches such a row, in bytes."""
  if split := split_of(size):
    (shared,) = split.scratch(interpret=False)
    return math.prod(shared.shape) * 4
  padded = _padded(size)
  num_bytes = padded * dtype.itemsize
  return num_bytes if num_bytes <= _MAX_BYTES else 2 * padded


def split_of(size: int) -> Split | None:
  """How such a row is held in registers; none if it does not fit.

  By as many threads as can share a row that is filled up by a sixteenth at
  most.
  """
  if not WARP_GROUPS:
    return None
  splits = itertools.product(range(WARP_GROUPS.bit_length()), (4, 2, 1))
  for groups, lines in sorted(
    ((2**i, lines) for i, lines in splits),
    key=lambda pair: (-pair[0] * pair[1], -pair[0]),
  ):
    entries = groups * lines * LINE
    if -size % entries <= size // 16:
      break
  held = -(-size // (groups * THREADS))
  if held > _MAX_HELD // max(groups, 4):
    return None
  return Split(groups, -(-size // entries), lines)


def _lines_at_a_time(size: int) -> int:
  """As many as go into a row that is filled up by a sixteenth at most."""
  for lines in _CHUNKS:
    if -size % (lines * LINE) <= size // 16:
      return lines
  return _CHUNKS[-1]


def _padded(size: int) -> int:
  split = split_of(size)
  number = split.entries if split else _lines_at_a_time(size) * LINE
  return size + -size % number
