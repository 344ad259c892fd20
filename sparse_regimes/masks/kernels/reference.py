"""The k largest by sorting: short, slow, and right by construction."""

import jax
import jax.numpy as jnp
from jax import lax

from sparse_regimes.masks.kernels.sharding import as_rows


def lax_top_k_mask(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
  """Marks each row's ``num_kept`` largest, by ``jax.lax.top_k``.

  ``lax.top_k`` wants a static k, so it ranks everything and the ranks below the
  traced ``num_kept`` are kept.

  Args:
    scores: ``[*lead, *budget]``, any real dtype, at least one entry.
    num_kept: int32 ``[*lead]``, at least 1, at most the size of a row.

  Returns:
    bool, the shape of ``scores``.
  """
  rows, num_kept = as_rows(scores, num_kept)
  size = rows.shape[-1]
  _, order = lax.top_k(rows, size)
  kept = lax.broadcasted_iota(jnp.int32, rows.shape, 1) < num_kept
  mask = jnp.put_along_axis(
    jnp.zeros_like(rows, bool), order, kept, axis=-1, inplace=False
  )
  return mask.reshape(scores.shape)
