"""The ranges that every strategy's budget arguments must keep."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range

# Batches and decisions are counted in int32.
MAX_COUNT = 2**31 - 1


def check_budget(
  keep_init: ArrayLike,
  keep_min: ArrayLike,
  keep_max: ArrayLike,
  tighten_pct: ArrayLike,
  decide_every: ArrayLike,
) -> None:
  """Raises a ``ValueError`` naming the first argument out of its range."""
  in_range("keep_min", keep_min, 0, 1)
  in_range("keep_max", keep_max, 0, 1)
  budgets = (keep_min, keep_init, keep_max)
  if not any(isinstance(x, jax.core.Tracer) for x in budgets):
    if np.any(np.asarray(keep_min) > np.asarray(keep_max)):
      raise ValueError(
        f"keep_min must be at most keep_max, got keep_min {keep_min} and"
        f" keep_max {keep_max}"
      )
    if all(np.ndim(x) == 0 for x in budgets):
      in_range("keep_init", keep_init, keep_min, keep_max)  # type: ignore[arg-type]
    elif not np.all(
      (np.asarray(keep_min) <= np.asarray(keep_init))
      & (np.asarray(keep_init) <= np.asarray(keep_max))
    ):
      raise ValueError(
        f"keep_init must be in [keep_min, keep_max], got {keep_init} with"
        f" keep_min {keep_min} and keep_max {keep_max}"
      )
  in_range("tighten_pct", tighten_pct, 0, 1, below=True)
  in_range("decide_every", decide_every, 1, MAX_COUNT)


def budgets(*given: ArrayLike | Sequence[float]) -> list[Any]:
  """Budgets as numbers or arrays, and the first of them of the shape of all.

  Example:
    >>> [x.tolist() for x in budgets(1.0, (0.5, 0.1))]
    [[1.0, 1.0], [0.5, 0.10000000149011612]]
    >>> budgets(1.0, 0.5)
    [1.0, 0.5]
  """
  known = [jnp.asarray(x, jnp.float32) if np.ndim(x) else x for x in given]
  shape = np.broadcast_shapes(*(np.shape(x) for x in known))
  if shape:
    known[0] = jnp.broadcast_to(jnp.asarray(known[0], jnp.float32), shape)
  return known
