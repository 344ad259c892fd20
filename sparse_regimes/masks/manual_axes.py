"""Over which axes of a mesh an array differs, inside ``jax.shard_map``."""

from typing import Any

import jax
from jax import lax


def varying_axes(x: jax.Array) -> frozenset[Any]:
  """The axes over which the type of ``x`` says that it may differ."""
  kind = jax.typeof(x)
  manual = getattr(kind, "manual_axis_type", None)
  # As earlier versions of JAX call it.
  axes = getattr(kind, "vma", frozenset()) if manual is None else manual.varying
  return frozenset(axes)


def vary(x: jax.Array, axes: Any) -> jax.Array:
  """The same array, as one that may differ along the axes of a mesh, too."""
  manual = set(jax.sharding.get_abstract_mesh().manual_axes)
  missing = tuple(a for a in axes if a in manual - varying_axes(x))
  return lax.pcast(x, missing, to="varying") if missing else x


def shape_like(x: jax.Array, shape: tuple[int, ...], dtype: Any) -> Any:
  """A ``jax.ShapeDtypeStruct`` that differs along the axes that ``x`` does."""
  kind = jax.typeof(x)
  how = {
    name: getattr(kind, name)
    for name in ("manual_axis_type", "vma")
    if hasattr(kind, name)
  }
  return jax.ShapeDtypeStruct(shape, dtype, **dict(list(how.items())[:1]))
