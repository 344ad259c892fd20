"""A control: the budget cycles by the clock, whatever the accuracy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparse_regimes.controllers.base import Controller, guarded
from sparse_regimes.controllers.bounds import MAX_COUNT, budgets, check_budget
from sparse_regimes.errors import in_range


class CosineState(NamedTuple):
  """Scalars.

  Attributes:
    keep_ratio: the budget in force, float32.
    num_batches: batches seen, int32.
  """

  keep_ratio: jax.Array
  num_batches: jax.Array


def cosine(
  *,
  keep_min: float = 0.1,
  keep_max: float = 1.0,
  period: int = 40,
  decide_every: int = 128,
) -> Controller:
  r"""A cosine cycle of the budget without any feedback.

  After n decisions, one every ``decide_every`` batches,

  .. math:: r_n = r_{\min} + (r_{\max} - r_{\min})
     \frac{1 + \cos(2 \pi n / P)}{2}

  A control for the strategies: it cycles as they do, and nothing tells it when.

  Args:
    keep_min: :math:`r_{\min}`, in ``[0, 1]``.
    keep_max: :math:`r_{\max}`, in ``[keep_min, 1]``; the first budget.
    period: P, decisions in a cycle, at least 2.
    decide_every: batches between decisions, at least 1.

  Returns:
    A :class:`Controller` with :class:`CosineState`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes.controllers import cosine
    >>> controller = cosine(keep_min=0.0, period=4, decide_every=1)
    >>> state = controller.init()
    >>> for _ in range(4):
    ...   state = controller.update(state, accuracy=0.5)
    ...   print(f"{state.keep_ratio:.2f}")
    0.50
    0.00
    0.50
    1.00

  Source: ours.
  """
  keep_max, keep_min = budgets(keep_max, keep_min)
  check_budget(keep_max, keep_min, keep_max, 0.0, decide_every)
  in_range("period", period, 2, MAX_COUNT)

  def init() -> CosineState:
    return CosineState(
      keep_ratio=jnp.array(keep_max, jnp.float32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(state: CosineState, **_: Any) -> CosineState:
    num_batches = state.num_batches + 1
    # The place in the cycle is exact in integers, however long the run.
    place = (num_batches // decide_every) % period
    share = (1 + jnp.cos(2 * jnp.pi * (place / period))) / 2
    keep_ratio = keep_min + (keep_max - keep_min) * share
    return CosineState(
      keep_ratio=jnp.clip(keep_ratio, keep_min, keep_max),
      num_batches=num_batches,
    )

  return guarded(init, update)
