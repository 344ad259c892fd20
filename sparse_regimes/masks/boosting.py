"""Rare units are raised, so that all of them learn."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# Positions over which a unit's share of being active is averaged, in batches.
_PERIOD = 1000


def boosted(
  scores: jax.Array, duty: jax.Array, strength: ArrayLike
) -> jax.Array:
  r"""Scores that rank a unit the higher the rarer it is: :math:`s\,e^{-bd}`.

  They rank alone: what is kept is the activation as it is.

  Args:
    scores: ``[..., channels]``.
    duty: d, share of positions at which a unit was active, ``[channels]``.
    strength: b, at least 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.boosting import boosted
    >>> boosted(jnp.array([1.0, 1.0]), jnp.array([0.0, 0.5]), 1.0)
    Array([1.        , 0.60653067], dtype=float32)

  Source: k-winners of nupic (Ahmad and Scheinkman, arXiv 1903.11257).
  """
  factor = jnp.exp(-jnp.asarray(strength, jnp.float32) * duty)
  factor = factor.reshape((1,) * (scores.ndim - 1) + (-1,))
  return scores * factor.astype(scores.dtype)


def duty_after(duty: jax.Array, active: jax.Array) -> jax.Array:
  r"""The duty cycles after a batch.

  .. math:: d \leftarrow \frac{(P - 1)\, d + a}{P}, \quad P = 1000

  with a the share of the batch's positions at which a unit is active.

  Args:
    duty: d, ``[channels]``.
    active: bool ``[..., channels]``.
  """
  rows = active.reshape(-1, active.shape[-1])
  share = jnp.mean(rows, axis=0, dtype=jnp.float32)
  return (duty * (_PERIOD - 1) + share) / _PERIOD


def duty_entropy(duty: jax.Array) -> jax.Array:
  r"""How evenly units take turns: :math:`-\sum_i p_i \log_2 p_i`, in bits.

  With :math:`p = d / \sum d`: at most the logarithm of their number.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.boosting import duty_entropy
    >>> duty_entropy(jnp.full(8, 0.25))
    Array(3., dtype=float32)
  """
  total = jnp.sum(duty)
  p = duty / jnp.where(total > 0, total, 1)
  return -jnp.sum(jnp.where(p > 0, p * jnp.log2(jnp.where(p > 0, p, 1)), 0.0))
