"""A row in the registers of a GPU's block of threads; see ``pallas_gpu``.

Every thread keeps a digit of 16 bits of each of its entries, two to a register,
and each instruction that compares or adds works on two. A pass over the row
then reads no memory: the threads add up their counts, one barrier a pass.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.mosaic import gpu as mgpu
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import arith, llvm, memref, vector

from sparse_regimes.masks.kernels.gpu_block import LINE, keys_of, loop

# Of digits.
_LOWEST = -(2**15)
# Of a warp group, and of a warp.
THREADS = 128
_LANES = 32
# Counts of a pass are in shared memory until all have read them: a pass has
# another place than the one before. The passes of a digit are one and two in
# turns; those of what is tied one for two rounds and two in turns.
_OF_A_DIGIT = 3


@dataclasses.dataclass(frozen=True)
class Split:
  """How a row is split among the threads of a block.

  It is dealt out in rounds: in each, a warp group after another takes as many
  lines as its threads can share.
  """

  # Warp groups.
  groups: int
  rounds: int
  # Of a warp group in a round.
  lines: int

  @property
  def entries(self) -> int:
    """Of a round."""
    return self.groups * self.lines * LINE

  def scratch(self, interpret: bool) -> list[Any]:
    """Where the threads add up; the interpreter's wait as Pallas has it."""
    places = 2 * _OF_A_DIGIT + -(-self.rounds // 2) + 2
    shared: list[Any] = [plgpu.SMEM((places, _LANES), jnp.int32)]
    if interpret:
      shared.append(plgpu.Barrier(num_arrivals=self.groups))
    return shared


def search_registers(
  rows,
  num_kept,
  threshold_out,
  last_out,
  *kept_out_and_scratch,
  split: Split,
  num_bits: int,
  break_zero_ties: bool,
  writes_kept: bool,
  interpret: bool,
):
  """Searches a row, and writes where its budget ends; see ``search``.

  Args:
    rows: all of them, ``[r, lines, LINE]``, in the GPU's memory.
    num_kept: int32 ``[r]``.
    threshold_out: int32 ``[r]``.
    last_out: int32 ``[r]``.
    *kept_out_and_scratch: where to write what is kept, if that is wanted; and
      what ``split.scratch`` says.
    split: of the row.
    num_bits: of a score.
    break_zero_ties: whether equal zeros are told apart.
    writes_kept: whether there is where to write what is kept.
    interpret: whether Pallas interprets it.
  """
  kept_out = kept_out_and_scratch[:writes_kept]
  scratch = kept_out_and_scratch[writes_kept:]
  number, group = lax.axis_index("row"), lax.axis_index("group")
  kept = num_kept[number]
  shape = (split.lines, LINE)
  layout = plgpu.Layout.WG_STRIDED(
    shape, vec_size=split.lines * LINE // THREADS
  )

  def as_shared(x):
    """As the threads share all else, two neighbours to a register."""
    # The interpreter has no threads, and no word for how they share.
    return x if interpret else plgpu.layout_cast(x, layout)

  def where(i):
    return pl.ds((i * split.groups + group) * split.lines, split.lines)

  def load(i):
    return as_shared(rows[number, where(i), :])

  def hold(digit_of):
    return [digit_of(load(i)) for i in range(split.rounds)]

  total = functools.partial(
    _total, scratch=scratch, group=group, split=split, layout=layout
  )
  is_whole = num_bits == 16
  if is_whole:
    digits, threshold, num_above, num_equal = _bisect(
      hold(_ordered), kept, total, 0, split
    )
  else:
    upper_digits = hold(lambda x: _upper(keys_of(x)).astype(jnp.int16))
    _, upper, num_above, _ = _bisect(upper_digits, kept, total, 0, split)

    def lower_digit(x):
      keys = keys_of(x)
      # What is not in question is below every pivot.
      lower = (keys & jnp.int32(0xFFFF)) + jnp.int32(_LOWEST)
      lower = jnp.where(_upper(keys) == upper, lower, jnp.int32(_LOWEST))
      return lower.astype(jnp.int16)

    _, lower, above, num_equal = _bisect(
      hold(lower_digit), kept - num_above, total, _OF_A_DIGIT, split
    )
    num_above += above
    threshold = lax.shift_left(upper, jnp.int32(16)) + (lower - _LOWEST)

  line, column = (
    as_shared(lax.broadcasted_iota(jnp.int32, shape, axis)) for axis in (0, 1)
  )
  # Of an entry in its round.
  index = (group * split.lines + line) * LINE + column
  minus_index = (jnp.int32(0) - index).astype(jnp.int16)

  def up_to(last):
    """1 for entries of a round up to this one, -1 being none; else 0."""
    return _clip(minus_index + (last + 1).astype(jnp.int16), 0, 1)

  def differs(digits):
    """1 for what is not at the threshold, else 0."""
    return _is_not_zero(digits ^ threshold.astype(jnp.int16))

  def keys_differ(x):
    return (keys_of(x) != threshold).astype(jnp.int16)

  num_tied = kept - num_above
  place = 2 * _OF_A_DIGIT

  def where_ties_end():
    """Among equals the first count: the round they end in, then the index."""
    if is_whole:
      held, is_other = digits, differs
    else:
      held, is_other = hold(keys_differ), lambda x: x
    none = jnp.int32(0)
    counted = found = before = none
    for i in range(0, split.rounds, 2):
      others = map(is_other, held[i : i + 2])
      of_two = total(*others, place=place + i // 2)
      some = (of_two & 0xFFFF, lax.shift_right_logical(of_two, jnp.int32(16)))
      for j, other in enumerate(some[: split.rounds - i]):
        reached = counted + (split.entries - other)
        is_here = (counted < num_tied) & (reached >= num_tied)
        found = jnp.where(is_here, jnp.int32(i + j), found)
        before = jnp.where(is_here, counted, before)
        counted = reached
    # What is held of that round: there is no choice of two in a register.
    of_round = [
      x & jnp.where(found == i, jnp.int32(-1), none).astype(jnp.int16)
      for i, x in enumerate(held)
    ]
    tied = is_other(functools.reduce(jnp.bitwise_or, of_round)) ^ jnp.int16(1)
    bits = split.entries.bit_length() - 1

    def narrow(i, last):
      fewer = last - lax.shift_left(jnp.int32(1), bits - 1 - i)
      turn = place + -(-split.rounds // 2) + (i & 1)
      reached = before + total(tied & up_to(fewer), place=turn)
      return jnp.where(reached >= num_tied, fewer, last)

    last = loop(bits, narrow, jnp.int32(split.entries - 1))
    return found * split.entries + last

  straddled = num_equal != num_tied
  if not break_zero_ties:
    straddled &= threshold != 0
  everything = jnp.int32(split.rounds * split.entries)
  last = lax.cond(straddled, where_ties_end, lambda: everything)
  threshold_out[number] = threshold
  last_out[number] = last
  if not kept_out:
    return
  # Not the difference as above, lest the compiler keeps that until here.
  minus_threshold = (jnp.int32(0) - threshold).astype(jnp.int16)

  def write_whole(i, last_here):
    # All ones or zero, which is minus one or none.
    is_dropped = _nearer(digits[i], threshold) + minus_threshold
    if last_here is not None:
      is_tied = _is_not_zero(digits[i] + minus_threshold) + jnp.int16(-1)
      is_dropped |= is_tied & (up_to(last_here) + jnp.int16(-1))
    bits = _flipped(digits[i]) & (is_dropped ^ jnp.int16(-1))
    kept_out[0][number, where(i), :] = _as(rows.dtype, bits)

  def write_read_again(i, last_here):
    scores = load(i)
    keys = keys_of(scores)
    is_kept = keys >= threshold
    if last_here is not None:
      is_kept &= (keys != threshold) | (index <= last_here)
    zero = jnp.zeros((), rows.dtype)
    kept_out[0][number, where(i), :] = jnp.where(is_kept, scores, zero)

  write = write_whole if is_whole else write_read_again
  for i in range(split.rounds):
    last_here = last - i * split.entries
    # Few rounds end before their last entry.
    lax.cond(
      last_here >= split.entries,
      functools.partial(write, i, None),
      functools.partial(write, i, jnp.maximum(last_here, -1)),
    )


def _as(dtype, x):
  return lax.bitcast_convert_type(x, dtype)


def _is_not_zero(x):
  return _as(jnp.int16, jnp.minimum(_as(jnp.uint16, x), jnp.uint16(1)))


def _clip(x, low, high):
  return jnp.maximum(jnp.minimum(x, jnp.int16(high)), jnp.int16(low))


def _flipped(bits):
  """``flip_negative`` for two in a register: there is no choice of two."""
  return bits ^ (_clip(bits, -1, 0) & jnp.int16(0x7FFF))


def _ordered(x):
  return _flipped(_as(jnp.int16, x))


def _upper(keys):
  return lax.shift_right_arithmetic(keys, jnp.int32(16))


def _at_least(digits, pivot):
  """1 for what is at the pivot or above, else 0."""
  # Of the lowest pivot it wraps, to what is one away.
  return _nearer(digits, pivot) + (1 - pivot).astype(jnp.int16)


def _nearer(digits, pivot):
  """The pivot for what is at it or above, else one less, if there is."""
  below = jnp.maximum(pivot - 1, _LOWEST).astype(jnp.int16)
  return jnp.minimum(jnp.maximum(digits, below), pivot.astype(jnp.int16))


def _above_zero_at_least(digits, pivot):
  """The same of digits from -1 on and pivots above 0, that no sum wraps."""
  return _clip(digits + (1 - pivot).astype(jnp.int16), 0, 1)


def _bisect(digits, wanted, total, place, split):
  """The largest t with as many digits at it or above as wanted.

  Returns:
    The digits, but that what is below zero may be -1 if t is not; t; and how
    many digits are above it and at it.
  """

  def refine(at_least, *start):
    def settle(i, found):
      threshold, reached, above = found
      higher = threshold + lax.shift_left(jnp.int32(1), 14 - i)
      counted = count(at_least, higher, place + 1 + (i & 1))
      is_reached = counted >= wanted
      return (
        jnp.where(is_reached, higher, threshold),
        jnp.where(is_reached, counted, reached),
        jnp.where(is_reached, above, counted),
      )

    return loop(15, settle, start)

  def count(at_least, pivot, place):
    marked = [at_least(digit, pivot) for digit in digits]
    return total(functools.reduce(jnp.add, marked), place=place)

  zero = jnp.int32(0)
  positive = count(_at_least, zero, place)
  is_positive = positive >= wanted
  # So that no pivot is further away than a digit can be.
  floor = jnp.where(is_positive, jnp.int32(-1), jnp.int32(_LOWEST))
  floor = floor.astype(jnp.int16)
  digits = [jnp.maximum(digit, floor) for digit in digits]
  everything = jnp.int32(split.rounds * split.entries)
  threshold, reached, above = lax.cond(
    is_positive,
    lambda: refine(_above_zero_at_least, zero, positive, zero),
    lambda: refine(_at_least, jnp.int32(_LOWEST), everything, positive),
  )
  return digits, threshold, above, reached - above


def _total(*counts, place, scratch, group, split, layout):
  """Adds up what the threads of a block have counted, of 16 bits each.

  Args:
    *counts: one or two; of two the second total is in the upper 16 bits.
    place: in shared memory.
    scratch: that, and what else ``Split.scratch`` says.
    group: the warp group.
    split: of the row.
    layout: of the counts.
  """
  if len(scratch) > 1:
    return _interpreted_total(counts, place, scratch, group, split.groups)
  add_up = plgpu.inline_mgpu(
    arg_types=(plgpu.RefType(), *[layout] * len(counts)),
    return_type=plgpu.ShapeDtypeStruct(
      (), jnp.int32, layout=plgpu.Layout.WG_SPLAT(())
    ),
  )(functools.partial(_add_up, num_warps=4 * split.groups))
  return add_up(scratch[0].at[place], *counts)


def _interpreted_total(counts, place, scratch, group, groups):
  shared, barrier = scratch
  sums = [jnp.sum(x.astype(jnp.int32), dtype=jnp.int32) for x in counts]
  own = sums[0]
  if len(sums) == 2:
    own += lax.shift_left(sums[1], jnp.int32(16))
  shared[place, group] = own
  plgpu.barrier_arrive(barrier)
  plgpu.barrier_wait(barrier)
  return functools.reduce(jnp.add, [shared[place, i] for i in range(groups)])


def _add_up(_, shared, *counts, num_warps):
  """What each thread does for ``_total``."""
  i32, index = ir.IntegerType.get_signless(32), ir.IndexType.get()

  def constant(number):
    return mgpu.c(number, i32)

  def inline(instruction, *operands):
    constraints = ",".join(["=r"] + ["r"] * len(operands))
    return llvm.inline_asm(
      i32, operands, instruction, constraints, has_side_effects=True
    )

  def of_thread(count):
    """The sum of both halves of all its registers."""
    words = []
    for register in count.registers.flat:
      (size,) = ir.VectorType(register.type).shape
      pairs = vector.bitcast(ir.VectorType.get((size // 2,), i32), register)
      words += [
        vector.extract(pairs, dynamic_position=[], static_position=[i])
        for i in range(size // 2)
      ]
    # No half is so large that it is carried over.
    both = functools.reduce(arith.addi, words)
    return arith.addi(
      arith.andi(both, constant(0xFFFF)), arith.shrui(both, constant(16))
    )

  def of_warp(number):
    return inline("redux.sync.add.s32 $0, $1, 0xffffffff;", number)

  def place(number):
    return [arith.index_cast(index, number)]

  own = of_thread(counts[0])
  for count in counts[1:]:
    own = arith.addi(own, arith.shli(of_thread(count), constant(16)))
  thread = inline("mov.u32 $0, %tid.x;")
  # All of a warp write the same.
  memref.store(of_warp(own), shared, place(arith.shrui(thread, constant(5))))
  # The barriers of the warp groups themselves have other numbers.
  void = ir.Type.parse("!llvm.void")
  llvm.inline_asm(void, [], "bar.sync 0;", "~{memory}", has_side_effects=True)
  lane = arith.andi(thread, constant(_LANES - 1))
  of_lane = memref.load(shared, place(lane))
  if num_warps < _LANES:
    is_one = arith.cmpi(arith.CmpIPredicate.ult, lane, constant(num_warps))
    of_lane = arith.select(is_one, of_lane, constant(0))
  return mgpu.FragmentedArray.splat(of_warp(of_lane), (), is_signed=True)
