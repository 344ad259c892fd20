"""N of every M neighbours: the pattern that matrix units can skip."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range
from sparse_regimes.masks.kernels.bits import ordered_bits

# Neighbours of which every pair is compared.
_FEW = 32


def n_m_mask(
  scores: jax.Array, n: ArrayLike, m: int, *, axis: int = -1
) -> jax.Array:
  """Marks the n largest of every m neighbours along an axis.

  Exactly n are marked in each group, larger first, among equals the one with
  the lower index; the order is that of :func:`sparse_regimes.topk_mask`.

  Args:
    scores: real, rank 1 or more.
    n: how many of a group stay, integer scalar, Python or traced, at most m.
    m: neighbours in a group; it divides the axis.
    axis: along which they lie.

  Returns:
    bool, the shape of ``scores``.

  Raises:
    ValueError: for an m that does not divide the axis, an n above m.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.n_m import n_m_mask
    >>> x = jnp.array([3.0, 1.0, 2.0, 0.0, 5.0, 5.0, 5.0, 6.0])
    >>> n_m_mask(x, 2, 4).astype(int)
    Array([1, 0, 1, 0, 1, 0, 0, 1], dtype=int32)

  Source: Haziza et al., arXiv 2503.16672 (2 of 4); the tie rule is ours.
  """
  m = operator.index(m)
  in_range("m", m, 1, 2**16)
  if not isinstance(n, jax.core.Tracer) and not 0 <= np.asarray(n) <= m:
    raise ValueError(f"n must be from 0 to m = {m}, got {n}")
  scores = jnp.moveaxis(jnp.asarray(scores), axis, -1)
  size = scores.shape[-1]
  if size % m:
    raise ValueError(f"m must divide the {size} entries of the axis, got {m}")
  keys = ordered_bits(scores)
  place = _places_by_pairs(keys, m) if m <= _FEW else _places_sorted(keys, m)
  mask = place < jnp.asarray(n, jnp.int32)
  return jnp.moveaxis(mask, -1, axis)


def _places_by_pairs(keys: jax.Array, m: int) -> jax.Array:
  """How many of its group come before each: every pair is compared once."""
  # Slices rather than an axis of m: so short an axis is no use to a processor.
  parts = [keys[..., i::m] for i in range(m)]
  places = [jnp.zeros(parts[0].shape, jnp.int32)] * m
  for i in range(m):
    for j in range(i + 1, m):
      is_first = (parts[i] >= parts[j]).astype(jnp.int32)
      places[j] = places[j] + is_first
      places[i] = places[i] + (1 - is_first)
  return jnp.stack(places, axis=-1).reshape(keys.shape)


def _places_sorted(keys: jax.Array, m: int) -> jax.Array:
  groups = keys.reshape(*keys.shape[:-1], -1, m)
  # Not -keys: the least integer has no negative.
  order = jnp.argsort(~groups, axis=-1, stable=True)
  return jnp.argsort(order, axis=-1).astype(jnp.int32).reshape(keys.shape)


def along_tokens(
  x: jax.Array, n: ArrayLike, m: int, *, dense_share: float = 0.05
) -> jax.Array:
  """N of every M tokens of each feature, but for the densest features.

  What a gradient of weights reads, which sums over tokens: the operand that is
  sparse has to be so along them. The densest features stay as they are.

  Args:
    x: ``[tokens, features]``; m divides the tokens.
    n: tokens of a group that stay.
    m: tokens of a group.
    dense_share: of features that stay dense, those with the most nonzero
      entries.

  Returns:
    The shape and dtype of ``x``.

  Raises:
    ValueError: as :func:`n_m_mask`, or for a share outside ``[0, 1]``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.n_m import along_tokens
    >>> x = jnp.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 5.0]])
    >>> along_tokens(x, 2, 4, dense_share=0.0)[:, 0]
    Array([0., 0., 3., 4.], dtype=float32)

  Source: Haziza et al., arXiv 2503.16672: 95 % and 5 % of features.
  """
  in_range("dense_share", dense_share, 0, 1)
  mask = n_m_mask(jnp.abs(x), n, m, axis=0)
  num_dense = round(dense_share * x.shape[1])
  if num_dense:
    counts = jnp.sum(x != 0, axis=0, dtype=jnp.int32)
    place = jnp.argsort(jnp.argsort(-counts, stable=True))
    mask |= (place < num_dense)[None]
  return jnp.where(mask, x, jnp.zeros((), x.dtype))
