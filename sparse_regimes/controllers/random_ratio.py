"""A control: a budget drawn anew at every decision."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparse_regimes.controllers.base import Controller, guarded
from sparse_regimes.controllers.bounds import MAX_COUNT, budgets, check_budget
from sparse_regimes.errors import in_range


class RandomRatioState(NamedTuple):
  """Scalars.

  Attributes:
    keep_ratio: the budget in force, float32.
    num_batches: batches seen, int32.
  """

  keep_ratio: jax.Array
  num_batches: jax.Array


def random_ratio(
  *,
  keep_min: float = 0.1,
  keep_max: float = 1.0,
  quantiles: tuple[float, ...] = (),
  decide_every: int = 1,
  draw_seed: int = 0,
) -> Controller:
  r"""Independent budgets, uniform in their logarithm or of a given kind.

  .. math:: r = \exp(u), \quad
     u \sim \mathrm{Uniform}(\ln r_{\min}, \ln r_{\max})

  A strategy that compresses by a constant factor from :math:`r_{\max}` to
  :math:`r_{\min}` and is reset at once spends its time so, too. One that waits
  does not: ``quantiles`` of the budgets of its steps make this control draw
  from their distribution, :math:`r = F^{-1}(u)` with :math:`u \sim
  \mathrm{Uniform}(0, 1)`, linear between them. It has the same budgets without
  their order, and without feedback.

  Args:
    keep_min: :math:`r_{\min}`, in ``(0, 1]``.
    keep_max: :math:`r_{\max}`, in ``[keep_min, 1]``; also the first budget.
    quantiles: at equal steps from 0 to 1, at least two, in ``[keep_min,
      keep_max]`` and not falling; empty for the logarithm.
    decide_every: batches between draws, at least 1.
    draw_seed: of the draws; draw n depends on it and n alone.

  Returns:
    A :class:`Controller` with :class:`RandomRatioState`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes.controllers import random_ratio
    >>> controller = random_ratio(keep_min=0.1)
    >>> state = controller.update(controller.init(), accuracy=0.5)
    >>> bool((0.1 <= state.keep_ratio) & (state.keep_ratio <= 1))
    True

  Source: ours.
  """
  keep_max, keep_min = budgets(keep_max, keep_min)
  check_budget(keep_max, keep_min, keep_max, 0.0, decide_every)
  in_range("keep_min", keep_min, 1e-6, 1)
  in_range("draw_seed", draw_seed, 0, MAX_COUNT)
  for quantile in quantiles:
    in_range("quantiles", quantile, keep_min, keep_max)
  is_known = not any(isinstance(q, jax.core.Tracer) for q in quantiles)
  if len(quantiles) == 1 or (is_known and list(quantiles) != sorted(quantiles)):
    raise ValueError(
      f"quantiles must be at least two that do not fall, got {quantiles}"
    )

  def init() -> RandomRatioState:
    return RandomRatioState(
      keep_ratio=jnp.array(keep_max, jnp.float32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(state: RandomRatioState, **_: Any) -> RandomRatioState:
    num_batches = state.num_batches + 1
    draw = num_batches // decide_every
    u = jax.random.uniform(jax.random.fold_in(jax.random.key(draw_seed), draw))
    if quantiles:
      levels = jnp.linspace(0.0, 1.0, len(quantiles))
      drawn = jnp.interp(u, levels, jnp.array(quantiles, jnp.float32))
    else:
      low, high = _log(keep_min), _log(keep_max)
      drawn = jnp.exp(low + (high - low) * u)
    return RandomRatioState(
      keep_ratio=jnp.where(
        draw > 0, jnp.clip(drawn, keep_min, keep_max), state.keep_ratio
      ),
      num_batches=num_batches,
    )

  return guarded(init, update)


def _log(budget: Any) -> Any:
  return (
    math.log(budget) if isinstance(budget, (int, float)) else jnp.log(budget)
  )
