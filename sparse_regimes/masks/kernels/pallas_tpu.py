"""The threshold search on TPU: each row stays on chip until it is found.

Counting passes over HBM would move every activation once a pass. Here a block
of 128 rows is read into VMEM once, one row to a lane, so that counting is
elementwise; two numbers a row are written. XLA keeps the batch of convolutions
in lanes, too, so the transposition below moves nothing there.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sparse_regimes.masks.kernels.bits import ordered_bits, up_to
from sparse_regimes.masks.kernels.sharding import as_rows
from sparse_regimes.masks.kernels.threshold import threshold_mask
from sparse_regimes.masks.manual_axes import shape_like, varying_axes

_LANES = 128
# Entries of each lane that are counted at a time.
_CHUNK = 256
# Two blocks must fit in VMEM, of which the smallest chips have 128 MiB.
MAX_BLOCK_BYTES = 40 * 2**20


def fits_kernel(size: int, dtype: jnp.dtype) -> bool:
  """Whether the kernel takes rows of this size and dtype."""
  floats = (jnp.float32, jnp.bfloat16, jnp.float16)
  fits = size * _LANES * dtype.itemsize <= MAX_BLOCK_BYTES
  return fits and any(dtype == f for f in floats)


def pallas_tpu_mask(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
  """Marks each row's ``num_kept`` largest.

  On other platforms than TPU the kernel is interpreted: right, but slow.

  Args:
    scores: ``[*lead, *budget]``, at least one entry; float32, bfloat16 or
      float16.
    num_kept: int32 ``[*lead]``, at least 1, at most the size of a row.

  Returns:
    bool, the shape of ``scores``.
  """
  if varying_axes(scores):
    # Where shard_map checks what varies, a kernel cannot be interpreted.
    return lax.platform_dependent(
      scores, num_kept, tpu=_kernel_mask, default=threshold_mask
    )
  return _kernel_mask(scores, num_kept)


def _kernel_mask(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
  threshold, last = search(*as_rows(scores, num_kept))
  keys = search_keys(scores, _num_bits(scores.dtype))
  return up_to(keys, threshold, last, num_kept.ndim)


def search(rows: jax.Array, num_kept: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Where each row's budget ends.

  Args:
    rows: ``[r, d]``.
    num_kept: int32 ``[r, 1]``.

  Returns:
    ``(threshold, last)``, int32 ``[r, 1]`` each: kept are the entries whose
    key is above the threshold, and those at it up to the index ``last``.
  """
  num_rows, size = rows.shape
  columns = rows.T
  # Padding sorts below everything and comes last, so it is never kept.
  pad_size, pad_rows = -size % _CHUNK, -num_rows % _LANES
  if pad_size or pad_rows:
    bits = jnp.dtype(f"int{rows.dtype.itemsize * 8}")
    lowest = lax.bitcast_convert_type(jnp.array(-1, bits), rows.dtype)
    columns = lax.pad(columns, lowest, [(0, pad_size, 0), (0, pad_rows, 0)])
  num_blocks = columns.shape[1] // _LANES
  # One budget to a lane, repeated to fill a tile; at least one for padding.
  budgets = jnp.pad(num_kept.T, ((0, 0), (0, pad_rows)), constant_values=1)
  budgets = jnp.broadcast_to(budgets, (8, budgets.shape[1]))
  result = shape_like(columns, budgets.shape, jnp.int32)
  tile = pl.BlockSpec((8, _LANES), lambda i: (0, i))
  num_bits = _num_bits(rows.dtype)
  block_bytes = columns.shape[0] * _LANES * columns.dtype.itemsize
  call = functools.partial(
    pl.pallas_call,
    functools.partial(_kernel, num_bits=num_bits),
    grid=(num_blocks,),
    in_specs=[tile, pl.BlockSpec((columns.shape[0], _LANES), lambda i: (0, i))],
    out_specs=[tile, tile],
    out_shape=[result, result],
    # This block and the next, which is under way, and a margin. XLA keeps
    # other arrays in what is left of the 128 MiB.
    compiler_params=pltpu.CompilerParams(
      vmem_limit_bytes=2 * block_bytes + 4 * 2**20
    ),
    # Three operations an entry and a pass; each entry is read once.
    cost_estimate=pl.CostEstimate(
      flops=3 * num_bits * columns.size,
      bytes_accessed=columns.size * columns.dtype.itemsize + 3 * budgets.nbytes,
      transcendentals=0,
    ),
  )
  threshold, last = lax.platform_dependent(
    budgets, columns, tpu=call(), default=call(interpret=True)
  )
  return threshold[:1].T[:num_rows], last[:1].T[:num_rows]


def _num_bits(dtype: jnp.dtype) -> int:
  """bfloat16's bits are the upper half of float32's."""
  return 16 if dtype == jnp.bfloat16 else 32


def search_keys(x: jax.Array, num_bits: int) -> jax.Array:
  """The keys that are searched, int32: all or the upper half of float32's."""
  bits = ordered_bits(x.astype(jnp.float32))
  return lax.shift_right_arithmetic(bits, jnp.int32(32 - num_bits))


def _kernel(num_kept_ref, columns_ref, threshold_ref, last_ref, *, num_bits):
  num_kept = num_kept_ref[:1]
  size = columns_ref.shape[0]

  def keys_of(chunk) -> jax.Array:
    x = columns_ref[pl.ds(chunk * _CHUNK, _CHUNK), :]
    return search_keys(x, num_bits)

  def count(is_marked) -> jax.Array:
    def add(chunk, total):
      marked = is_marked(keys_of(chunk), chunk * _CHUNK)
      return total + jnp.sum(marked.astype(jnp.int32), axis=0, keepdims=True)

    zero = jnp.zeros((1, _LANES), jnp.int32)
    return lax.fori_loop(0, size // _CHUNK, add, zero)

  # From the sign bit on, count(keys >= threshold) == reached >= num_kept.
  def unfinished(carry):
    bit, _, reached = carry
    return (bit >= 0) & (jnp.max(reached - num_kept) > 0)

  def refine(carry):
    bit, threshold, reached = carry
    step = lax.shift_left(jnp.int32(1), bit)
    # Of the lowest key, the sign bit is cleared first.
    higher = threshold + step
    above = count(lambda keys, _: keys >= higher)
    up = above >= num_kept
    return (
      bit - 1,
      jnp.where(up, higher, threshold),
      jnp.where(up, above, reached),
    )

  lowest = jnp.full((1, _LANES), -(2 ** (num_bits - 1)), jnp.int32)
  _, threshold, reached = lax.while_loop(
    unfinished,
    refine,
    (jnp.int32(num_bits - 1), lowest, jnp.full((1, _LANES), size, jnp.int32)),
  )

  # Among equals the first count: the index of the last one is found likewise.
  num_tied = num_kept - count(lambda keys, _: keys > threshold)

  def narrow(i, last):
    lower = last - lax.shift_left(jnp.int32(1), size.bit_length() - 1 - i)
    enough = (
      count(
        lambda keys, start: (
          (keys == threshold)
          & (start + lax.broadcasted_iota(jnp.int32, keys.shape, 0) <= lower)
        )
      )
      >= num_tied
    )
    return jnp.where(enough, lower, last)

  everything = jnp.full((1, _LANES), 2 ** size.bit_length() - 1, jnp.int32)
  last = lax.cond(
    jnp.max(reached - num_kept) > 0,
    lambda: lax.fori_loop(0, size.bit_length(), narrow, everything),
    lambda: everything,
  )
  threshold_ref[:] = jnp.broadcast_to(threshold, threshold_ref.shape)
  last_ref[:] = jnp.broadcast_to(last, last_ref.shape)
