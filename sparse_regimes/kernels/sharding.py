"""Searches in a batch that is split over devices."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

# The mesh axis over which batches are split.
DATA_AXIS = "data"


def on_each_device(search: Callable[..., Any]) -> Callable[..., Any]:
  """Has every device search the rows that it holds.

  By itself XLA would gather the rows for a kernel, which it cannot split, and
  have the devices agree after each pass of a loop on whether another is needed.
  Under ``jax.set_mesh`` with an axis ``data`` the rows are taken to be split
  over that axis; otherwise, or if they do not divide, nothing changes.

  Args:
    search: from arrays with one entry a row along their first axis, to such
      arrays.

  Returns:
    A function with the signature of ``search``.
  """

  def search_here(*arrays: jax.Array) -> Any:
    mesh = jax.sharding.get_abstract_mesh()
    num_rows = arrays[0].shape[0]
    if DATA_AXIS not in mesh.axis_names or num_rows % mesh.shape[DATA_AXIS]:
      return search(*arrays)
    return jax.shard_map(
      search,
      in_specs=PartitionSpec(DATA_AXIS),
      out_specs=PartitionSpec(DATA_AXIS),
      # A loop's constants do not say over which axes they vary.
      check_vma=False,
    )(*arrays)

  return search_here
