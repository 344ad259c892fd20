"""The k largest by sorting: short, slow, and right by construction."""

import jax
import jax.numpy as jnp
from jax import lax


def lax_top_k_mask(scores: jax.Array, num_kept: jax.Array) -> jax.Array:
  """Marks the ``num_kept`` largest of every row, by ``jax.lax.top_k``.

  ``lax.top_k`` wants a static k, so it ranks the whole row and the ranks below
  the traced ``num_kept`` are kept.

  Args:
    scores: ``[..., d]``, any real dtype.
    num_kept: int32 scalar in ``[1, d]``.

  Returns:
    bool ``[..., d]``.
  """
  size = scores.shape[-1]
  _, order = lax.top_k(scores, size)
  kept = jnp.broadcast_to(jnp.arange(size) < num_kept, scores.shape)
  return jnp.put_along_axis(
    jnp.zeros(scores.shape, bool), order, kept, axis=-1, inplace=False
  )
