"""Thresholds that were measured, so that any keep ratio has one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.masks.budget import as_ratio

# Of a table: a keep ratio is met within half a thousandth.
NUM_QUANTILES = 1025
# Of a batch are looked at.
_SAMPLED = 8192
# Weight of the past, once there is one.
_BETA = 0.99


class Quantiles(NamedTuple):
  """What share of a site's scores lies below which value.

  Attributes:
    values: float32 ``[NUM_QUANTILES]``, or ``[NUM_QUANTILES, channels]``: the
      quantiles from 0 to 1, equally spaced.
    num_batches: that they were measured on, int32 scalar; 0: none yet.
  """

  values: jax.Array
  num_batches: jax.Array


def no_quantiles(channels: int | None = None) -> Quantiles:
  """Before anything was measured: a threshold of 0.

  Args:
    channels: None for one table a site.
  """
  shape = (NUM_QUANTILES,) + (() if channels is None else (channels,))
  return Quantiles(jnp.zeros(shape, jnp.float32), jnp.zeros((), jnp.int32))


def quantiles_of(scores: jax.Array, *, by_channel: bool = False) -> jax.Array:
  """The table of an array of scores.

  Args:
    scores: ``[..., channels]``, real.
    by_channel: a table for each entry of the last axis.

  Returns:
    float32, ``values`` of :class:`Quantiles`.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.quantiles import quantiles_of
    >>> quantiles_of(jnp.arange(5.0))[512]
    Array(2., dtype=float32)
  """
  rows = scores.reshape(-1, scores.shape[-1] if by_channel else 1)
  rows = jnp.sort(rows.astype(jnp.float32), axis=0)
  at = jnp.linspace(0.0, rows.shape[0] - 1.0, NUM_QUANTILES, dtype=jnp.float32)
  low = jnp.floor(at).astype(jnp.int32)
  part = (at - low.astype(jnp.float32))[:, None]
  above = rows[jnp.minimum(low + 1, rows.shape[0] - 1)]
  table = rows[low] + part * (above - rows[low])
  return table if by_channel else table[:, 0]


def learned(state: Quantiles, scores: jax.Array) -> Quantiles:
  r"""The tables after another batch: a moving average of each quantile.

  .. math:: q \leftarrow q + \max(1/n, 1 - \beta)\,(q_{batch} - q), \quad
     \beta = 0.99

  so that it is the mean of the first hundred batches, of which some thousand
  scores are looked at.
  """
  by_channel = state.values.ndim == 2
  scores = jax.lax.stop_gradient(scores)
  if not by_channel:
    scores = scores.reshape(-1, 1)
  rows = scores.reshape(-1, scores.shape[-1])
  stride = max(1, len(rows) // (_SAMPLED if not by_channel else 128))
  new = quantiles_of(rows[::stride], by_channel=by_channel)
  number = state.num_batches + 1
  weight = jnp.maximum(1 / number.astype(jnp.float32), 1 - _BETA)
  return Quantiles(state.values + weight * (new - state.values), number)


def threshold(state: Quantiles, keep_ratio: ArrayLike) -> jax.Array:
  """Above it lies the share of scores that a keep ratio leaves.

  Args:
    state: the tables.
    keep_ratio: real scalar, Python or traced; from 1 on nothing is cut off.

  Returns:
    float32, a scalar or ``[channels]``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.quantiles import Quantiles
    >>> from sparse_regimes.masks.quantiles import quantiles_of, threshold
    >>> state = Quantiles(quantiles_of(jnp.arange(1001.0)), jnp.int32(1))
    >>> print(f"{threshold(state, 0.25):.1f}")
    750.0
  """
  ratio = as_ratio(keep_ratio)
  place = jnp.clip(1 - ratio, 0, 1) * (NUM_QUANTILES - 1)
  low = jnp.minimum(place.astype(jnp.int32), NUM_QUANTILES - 2)
  part = place - low.astype(jnp.float32)
  below, above = state.values[low], state.values[low + 1]
  return jnp.where(ratio >= 1, -jnp.inf, below + part * (above - below))
