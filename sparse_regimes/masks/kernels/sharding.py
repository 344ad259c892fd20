"""A search that every device makes in the rows that it holds, and no other."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sparse_regimes.masks.manual_axes import vary, varying_axes

# The mesh axis over which a run of this package splits its batches.
DATA_AXIS = "data"

# ``(scores [*lead, *budget], num_kept int32 [*lead]) -> mask``: an entry of the
# leading axes is a row, and the last axes share its budget. Or the scores with
# zeros for what is not marked, and numbers of each row beside, ``[*lead]``.
RowSearch = Callable[[jax.Array, jax.Array], Any]


def search_rows(
  search: RowSearch,
  scores: jax.Array,
  num_kept: jax.Array,
  *,
  axes: tuple[int, ...],
  by_magnitude: bool = False,
  keep_all: jax.Array | None = None,
  num_ends: int = 0,
) -> Any:
  """Marks the ``num_kept`` largest over ``axes``, split as ``scores`` is.

  By itself XLA would have the devices agree after each pass of a loop on
  whether another is needed, and would gather all rows for a sort or a kernel.
  Here it is told that rows do not need each other, whatever the mesh and its
  axes are called; a row that is itself split over devices is gathered.

  The TPU compiler cannot be told so. There the mesh in force says over which
  axis rows are split: the one of an explicit type; else ``data``, or the first.

  Args:
    search: a function of a module, so that it is compiled once.
    scores: any shape, at least one entry.
    num_kept: int32 scalar, at least 1, at most the size of ``axes``.
    axes: sorted, non-negative.
    by_magnitude: whether scores count without their sign.
    keep_all: bool scalar; if true nothing is searched.
    num_ends: how many numbers a row the search returns beside.

  Returns:
    What the search does: a mask, bool, of the shape of ``scores``; or else
    several arrays.
  """
  last = tuple(range(scores.ndim - len(axes), scores.ndim))
  split = _explicit_sharding(scores)

  def search_all(scores: jax.Array, num_kept: jax.Array) -> Any:
    moved = jnp.moveaxis(scores, axes, last)
    if by_magnitude:
      # Here, so that it is not done where all is kept.
      moved = jnp.abs(moved)
    lead = moved.shape[: -len(axes)]
    by_row = search
    # What an explicit type says is whole everywhere needs no rule; it may also
    # lie on one device, where JAX 0.12 does not compile one.
    if split is None or any(split.spec):
      row_axes = None if split is None else _row_axes(split, axes)
      by_row = _by_row(search, len(lead), len(axes), num_ends, row_axes)
    budgets = vary(jnp.broadcast_to(num_kept, lead), varying_axes(scores))
    found = by_row(moved, budgets)
    if not num_ends:
      return jnp.moveaxis(found, last, axes)
    return jnp.moveaxis(found[0], last, axes), *found[1:]

  def mask_of(
    scores: jax.Array, num_kept: jax.Array, *keep_all: jax.Array
  ) -> jax.Array:
    if not keep_all:
      return search_all(scores, num_kept)
    return lax.cond(
      keep_all[0],
      lambda scores, _: jnp.ones_like(scores, bool),
      search_all,
      scores,
      num_kept,
    )

  if split is not None:
    types = zip(split.mesh.axis_names, split.mesh.axis_types, strict=True)
    mask_of = jax.sharding.auto_axes(
      mask_of,
      axes=tuple(n for n, kind in types if kind == AxisType.Explicit),
      out_sharding=_of_result(split, _without(split, axes), num_ends),
    )
  return mask_of(scores, num_kept, *([] if keep_all is None else [keep_all]))


@functools.cache
def _by_row(
  search: RowSearch,
  num_lead: int,
  num_budget: int,
  num_ends: int,
  row_axes: tuple[Any, ...] | None,
) -> RowSearch:
  """``search`` that is split over rows, and that ``vmap`` may map.

  ``row_axes`` are those that an explicit type says, None where none does.
  """

  def partition(mesh: Any, arguments: Any, _: Any) -> Any:
    sharding = arguments[0].sharding
    if not isinstance(sharding, NamedSharding):
      # Arrays that have not been put on the mesh in force: JAX does not tell of
      # which axes the split is made, so every device searches everything.
      devices = sorted(sharding.device_set, key=lambda device: device.id)
      mesh = Mesh(np.array(devices), ("devices",))
      whole = NamedSharding(mesh, PartitionSpec())
      return mesh, search, _of_result(whole, whole, num_ends), (whole, whole)
    rows = NamedSharding(mesh, PartitionSpec(*tuple(sharding.spec)[:num_lead]))
    return mesh, search, _of_result(rows, rows, num_ends), (rows, rows)

  lead = " ".join(f"row{i}" for i in range(num_lead))
  budget = tuple(f"entry{i}" for i in range(num_budget))
  whole = f"{lead} {' '.join(budget)}"
  split = custom_partitioning(search)
  split.def_partition(
    partition,
    sharding_rule=(
      f"{whole}, {lead} -> {', '.join([whole] + [lead] * num_ends)}"
    ),
    need_replication_factors=budget,
  )

  @jax.custom_batching.custom_vmap
  def by_row(scores: jax.Array, num_kept: jax.Array) -> Any:
    # Within a shard_map over some or all axes of a mesh there is no more to
    # say: what is here is one device's, or cannot be split further.
    if AxisType.Manual in (jax.sharding.get_abstract_mesh().axis_types or ()):
      return search(scores, num_kept)
    on_each = functools.partial(_on_each_device, search, row_axes or ())
    if row_axes is not None:
      # Known, so no rule is needed, which JAX 0.12 does not compile here.
      return on_each(scores, num_kept)
    return lax.platform_dependent(scores, num_kept, tpu=on_each, default=split)

  @by_row.def_vmap
  def map_by_row(size, mapped, scores, num_kept):
    """Mapped rows are more rows, each with its own budget."""
    scores, num_kept = (
      x if is_mapped else jnp.broadcast_to(x, (size, *x.shape))
      for x, is_mapped in zip((scores, num_kept), mapped, strict=True)
    )
    more = _by_row(search, num_lead + 1, num_budget, num_ends, row_axes)
    return more(scores, num_kept), _of_result(True, True, num_ends)

  return by_row


def _on_each_device(
  search: RowSearch,
  row_axes: tuple[Any, ...],
  scores: jax.Array,
  num_kept: jax.Array,
) -> Any:
  """``search`` in a shard_map over the axes that split the rows, if any do."""
  mesh = jax.sharding.get_abstract_mesh()
  names = mesh.axis_names
  axes = row_axes or ((DATA_AXIS,) if DATA_AXIS in names else names[:1])
  rows, budgets = as_rows(scores, num_kept)
  if not axes or rows.shape[0] % math.prod(mesh.shape[a] for a in axes):
    return search(scores, num_kept)
  spec = PartitionSpec(axes)
  on_each = jax.shard_map(
    search,
    in_specs=(spec, spec),
    out_specs=spec,
    # A loop's constants do not say over which axes they vary.
    check_vma=False,
  )
  try:
    found = on_each(rows, budgets[:, 0])
    if not isinstance(found, tuple):
      return found.reshape(scores.shape)
    ends = (x.reshape(num_kept.shape) for x in found[1:])
    return found[0].reshape(scores.shape), *ends
  except ValueError:
    # A vmap has taken the axis, which no public name tells.
    return search(scores, num_kept)


def _of_result(of_scores: Any, of_ends: Any, num_ends: int) -> Any:
  """What is said of an array like the scores, and of each number a row."""
  return (of_scores, *[of_ends] * num_ends) if num_ends else of_scores


def _without(sharding: Any, axes: tuple[int, ...]) -> Any:
  """A sharding of the axes that are no budget."""
  spec = [names for i, names in enumerate(sharding.spec) if i not in axes]
  return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def as_rows(scores: jax.Array, num_kept: jax.Array) -> tuple[jax.Array, ...]:
  """``[r, d]`` and ``[r, 1]``: the budget's axes are one, the others, too."""
  lead = num_kept.shape
  size = math.prod(scores.shape[len(lead) :])
  return scores.reshape(-1, size), num_kept.reshape(-1, 1)


def _explicit_sharding(x: jax.Array) -> Any:
  """How x lies on a mesh whose axes are part of its type; None if none is."""
  sharding = getattr(jax.typeof(x), "sharding", None)
  types = getattr(getattr(sharding, "mesh", None), "axis_types", None) or ()
  return sharding if AxisType.Explicit in types else None


def _row_axes(split: Any, axes: tuple[int, ...]) -> tuple[Any, ...]:
  """The mesh's axes over which an explicit type splits what is no budget."""
  return tuple(
    name
    for i, names in enumerate(split.spec)
    if i not in axes and names is not None
    for name in (names if isinstance(names, tuple) else (names,))
  )
