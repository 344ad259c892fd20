"""Checksums of arrays, to know a saved state for what it was."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def digest(state: Any) -> list[int]:
  r"""A checksum of each array, the same however it is split over devices.

  .. math:: \sum_i (2 i + 1) b_i \mod 2^{32}

  over the bits :math:`b_i` of entry i. Whatever happens to a single entry
  changes it, since the weights are odd.

  Example:
    >>> digest({"w": jnp.array([1, 2, 3])})
    [22]
  """
  return np.asarray(_digest(state)).tolist()


@jax.jit
def _digest(state: Any) -> jax.Array:
  def of_array(x: jax.Array) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      x = jax.random.key_data(x)
    if x.dtype == jnp.bool:
      x = x.astype(jnp.uint8)
    bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    # By coordinates: a reshape would gather what is split over devices.
    index = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
      index = index * jnp.uint32(size) + lax.broadcasted_iota(
        jnp.uint32, x.shape, axis
      )
    weight = 2 * index + 1
    return jnp.sum(bits.astype(jnp.uint32) * weight, dtype=jnp.uint32)

  return jnp.stack([of_array(x) for x in jax.tree.leaves(state)])
