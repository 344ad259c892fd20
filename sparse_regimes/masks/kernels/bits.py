"""Integers that keep the order of the numbers whose bits they are."""

import math

import jax
import jax.numpy as jnp
from jax import lax


def ordered_bits(x: jax.Array) -> jax.Array:
  """Integers that sort as ``lax.top_k`` sorts ``x`` (IEEE 754 total order).

  ``-NaN < -inf < ... < -0 < +0 < ... < +inf < +NaN``. Integers stay as they
  are, except that unsigned ones move to the signed dtype of their width.

  Args:
    x: any shape; integers or floats of 8 bits or more.

  Returns:
    A signed integer array of the same shape and width.

  Example:
    >>> ordered_bits(jnp.array([-jnp.inf, -0.0, 0.0, 1.0])).argsort()
    Array([0, 1, 2, 3], dtype=int32)
  """
  signed = jnp.dtype(f"int{x.dtype.itemsize * 8}")
  if jnp.issubdtype(x.dtype, jnp.signedinteger):
    return x
  bits = lax.bitcast_convert_type(x, signed)
  if jnp.issubdtype(x.dtype, jnp.unsignedinteger):
    return bits ^ jnp.array(jnp.iinfo(signed).min, signed)
  return flip_negative(bits)


def flip_negative(bits: jax.Array) -> jax.Array:
  """Flips all but the sign of negative floats, which sort the other way."""
  magnitude = jnp.array(jnp.iinfo(bits.dtype).max, bits.dtype)
  return jnp.where(bits < 0, bits ^ magnitude, bits)


def up_to(
  keys: jax.Array, threshold: jax.Array, last: jax.Array, num_lead: int
) -> jax.Array:
  """The mask of rows of which a kernel has found where their budget ends.

  Args:
    keys: ``[*lead, *budget]``, of which larger ones come first.
    threshold: of each row, any shape of as many entries.
    last: likewise, the index up to which keys at the threshold are kept.
    num_lead: how many leading axes there are.

  Returns:
    bool, the shape of ``keys``.
  """
  lead, budget = keys.shape[:num_lead], keys.shape[num_lead:]
  threshold, last = (
    x.reshape(lead + (1,) * len(budget)) for x in (threshold, last)
  )
  index = jnp.arange(math.prod(budget), dtype=jnp.int32)
  index = index.reshape((1,) * num_lead + budget)
  return (keys > threshold) | ((keys == threshold) & (index <= last))
