"""How many entries a keep ratio leaves, and which of them compete."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.errors import one_of

SCOPES = ("global", "channel")
Axis = int | tuple[int, ...]


def num_kept(size: int, keep_ratio: ArrayLike) -> jax.Array:
  r"""How many of ``size`` entries a keep ratio leaves.

  .. math:: k = \max(1, \lfloor size \cdot r \rfloor)
     \text{ if } r < 1 \text{ else } size

  Ratio and product are rounded to float32 whether the ratio is traced or not,
  so that a compiled and an uncompiled call agree: 100 * 0.57 gives 57, where
  Python's floats give 56.99999999999999.

  Args:
    size: entries that share the budget; static, below 2**31.
    keep_ratio: real scalar, Python or traced; at most 0 keeps one entry.

  Returns:
    int32 scalar.

  Example:
    >>> from sparse_regimes import num_kept
    >>> num_kept(65536, 0.2)
    Array(13107, dtype=int32)

  Source: Wang, "Joint Training Across Multiple Activation Sparsity Regimes",
    arXiv 2603.03131, and its released program.
  """
  size = operator.index(size)
  keep_ratio = as_ratio(keep_ratio)
  kept = jnp.floor(jnp.float32(size) * keep_ratio).astype(jnp.int32)
  # From 2**24 on a float32 product may round to above the size.
  kept = jnp.clip(kept, min(1, size), size)
  return jnp.where(keep_ratio >= 1, jnp.int32(size), kept)


def budget_axes(
  x: jax.Array, axis: Axis | None, scope: str | None
) -> tuple[int, ...]:
  """The axes of ``x`` that share a budget, sorted and non-negative.

  Raises:
    ValueError: for a scope or an axis that there is not.
  """
  if axis is not None:
    if scope not in (None, "global"):
      raise ValueError(
        f"axis and scope say the same: give one, got axis {axis} and scope"
        f" {scope!r}"
      )
    return _canonical_axes(axis, x)
  check_scope(scope)
  if x.ndim == 0:
    raise ValueError("x must have at least one axis, got a scalar")
  if scope == "channel" or x.ndim == 1:
    return (x.ndim - 1,)
  return tuple(range(1, x.ndim))


def check_scope(scope: Any) -> None:
  """Raises a ``ValueError`` for what is no scope."""
  if scope is not None and not isinstance(scope, str):
    raise ValueError(
      "scope must be one of global, channel, got a"
      f" {type(scope).__name__}: Linen keeps the attribute `scope` of a module"
      " for itself, so call the field of yours `budget_scope`"
    )
  one_of("scope", scope, SCOPES)


def as_ratio(keep_ratio: ArrayLike) -> jax.Array:
  """A keep ratio as a float32 scalar.

  Raises:
    ValueError: if it is none.
  """
  ratio = jnp.asarray(keep_ratio, jnp.float32)
  if ratio.ndim:
    raise ValueError(
      f"keep_ratio must be a scalar at each site, got shape {ratio.shape}:"
      " sparse_regimes.at_site(keep_ratio, i) takes a site's entry, jax.vmap"
      " gives one to each example"
    )
  return ratio


def _canonical_axes(axis: Axis, scores: jax.Array) -> tuple[int, ...]:
  axes = tuple(map(operator.index, axis if isinstance(axis, tuple) else [axis]))
  canonical = sorted({a % scores.ndim for a in axes if scores.ndim})
  inside = all(-scores.ndim <= a < scores.ndim for a in axes)
  if not axes or not inside or len(canonical) < len(axes):
    raise ValueError(
      f"axis must name distinct axes of shape {scores.shape}, got {axis}"
    )
  if not jnp.issubdtype(scores.dtype, jnp.integer) and not jnp.issubdtype(
    scores.dtype, jnp.floating
  ):
    raise ValueError(f"scores must be real numbers, got {scores.dtype}")
  return tuple(canonical)
