"""The k largest by sorting: short, slow, and right by construction."""

import jax
import jax.numpy as jnp
from jax import lax


def lax_top_k_mask(
  scores: jax.Array, num_kept: jax.Array, *, axes: tuple[int, ...]
) -> jax.Array:
  """Marks the ``num_kept`` largest over ``axes``, by ``jax.lax.top_k``.

  ``lax.top_k`` wants a static k, so it ranks everything and the ranks below the
  traced ``num_kept`` are kept.

  Args:
    scores: any shape and real dtype, at least one entry.
    num_kept: int32 scalar, at least 1, at most the size of ``axes``.
    axes: sorted, non-negative.

  Returns:
    bool, the shape of ``scores``.
  """
  last = tuple(range(scores.ndim - len(axes), scores.ndim))
  moved = jnp.moveaxis(scores, axes, last)
  rows = moved.reshape(*moved.shape[: -len(axes)], -1)
  size = rows.shape[-1]
  _, order = lax.top_k(rows, size)
  kept = jnp.broadcast_to(jnp.arange(size) < num_kept, rows.shape)
  mask = jnp.put_along_axis(
    jnp.zeros(rows.shape, bool), order, kept, axis=-1, inplace=False
  )
  return jnp.moveaxis(mask.reshape(moved.shape), last, axes)
