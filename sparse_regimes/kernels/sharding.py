"""A search that every device makes in the rows that it holds, and no other."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sparse_regimes.manual_axes import vary, varying_axes

# The mesh axis over which a run of this package splits its batches.
DATA_AXIS = "data"

# ``(scores [*lead, *budget], num_kept int32 [*lead]) -> mask``: an entry of the
# leading axes is a row, and the last axes share its budget.
RowSearch = Callable[[jax.Array, jax.Array], jax.Array]


def search_rows(
  search: RowSearch,
  scores: jax.Array,
  num_kept: jax.Array,
  *,
  axes: tuple[int, ...],
) -> jax.Array:
  """Marks the ``num_kept`` largest over ``axes``, split as ``scores`` is.

  By itself XLA would have the devices agree after each pass of a loop on
  whether another is needed, and would gather all rows for a sort or a kernel.
  Here it is told that rows do not need each other, whatever the mesh and its
  axes are called; a row that is itself split over devices is gathered.

  Args:
    search: a function of a module, so that it is compiled once.
    scores: any shape, at least one entry.
    num_kept: int32 scalar, at least 1, at most the size of ``axes``.
    axes: sorted, non-negative.

  Returns:
    bool, the shape of ``scores``.
  """
  last = tuple(range(scores.ndim - len(axes), scores.ndim))
  split = _explicit_sharding(scores)

  def mask_of(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
    moved = jnp.moveaxis(scores, axes, last)
    lead = moved.shape[: -len(axes)]
    by_row = _by_row(search, len(lead), len(axes))
    budgets = vary(jnp.broadcast_to(num_kept, lead), varying_axes(scores))
    mask = by_row(moved, budgets)
    return jnp.moveaxis(mask, last, axes)

  if split is not None:
    explicit = tuple(
      name
      for name, kind in zip(
        split.mesh.axis_names, split.mesh.axis_types, strict=True
      )
      if kind == AxisType.Explicit
    )
    mask_of = jax.sharding.auto_axes(mask_of, axes=explicit, out_sharding=split)
  return mask_of(scores, num_kept)


@functools.cache
def _by_row(search: RowSearch, num_lead: int, num_budget: int) -> RowSearch:
  """``search`` that XLA may split over rows, and that ``vmap`` may map."""

  def partition(mesh: Any, arguments: Any, _: Any) -> Any:
    spec = tuple(arguments[0].sharding.spec)[:num_lead]
    rows = NamedSharding(mesh, PartitionSpec(*spec))
    return mesh, search, rows, (rows, rows)

  lead = " ".join(f"row{i}" for i in range(num_lead))
  budget = tuple(f"entry{i}" for i in range(num_budget))
  whole = f"{lead} {' '.join(budget)}"
  split = custom_partitioning(search)
  split.def_partition(
    partition,
    sharding_rule=f"{whole}, {lead} -> {whole}",
    need_replication_factors=budget,
  )

  @jax.custom_batching.custom_vmap
  def by_row(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
    # Within a shard_map over some axes of a mesh XLA cannot be told.
    return (search if _is_partly_manual() else split)(scores, num_kept)

  @by_row.def_vmap
  def map_by_row(size, mapped, scores, num_kept):
    """Mapped rows are more rows, each with its own budget."""
    scores, num_kept = (
      x if is_mapped else jnp.broadcast_to(x, (size, *x.shape))
      for x, is_mapped in zip((scores, num_kept), mapped, strict=True)
    )
    return _by_row(search, num_lead + 1, num_budget)(scores, num_kept), True

  return by_row


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


def _is_partly_manual() -> bool:
  types = jax.sharding.get_abstract_mesh().axis_types or ()
  return AxisType.Manual in types and any(t != AxisType.Manual for t in types)
