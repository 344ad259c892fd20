"""A controller that hears the mean of several batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparse_regimes.controllers.base import (
  Controller,
  following,
  make_signal,
  total_budget,
)
from sparse_regimes.controllers.bounds import MAX_COUNT
from sparse_regimes.errors import in_range


class AveragedState(NamedTuple):
  """A controller's state, and the mean that it hears next.

  Attributes:
    controller: state of the controller that listens.
    mean: of the signal since the last whole window, float32 scalar.
    num_batches: in the mean, int32 scalar.
  """

  controller: Any
  mean: jax.Array
  num_batches: jax.Array

  @property
  def keep_ratio(self) -> jax.Array:
    """The budget in force."""
    return self.controller.keep_ratio

  @property
  def total(self) -> jax.Array:
    """The budget of all sites together."""
    return total_budget(self.controller)


def averaged(
  controller: Controller, *, window: int, signal: str = "accuracy"
) -> Controller:
  r"""A controller that hears the mean since its last decision.

  .. math:: \bar a_t = \frac{1}{n} \sum_{u = t - n + 1}^{t} a_u, \quad
     n = ((t - 1) \bmod W) + 1

  With W the batches between two decisions, a decision rests on all batches
  since the one before, where it would rest on the last batch alone: an unlucky
  one resets the budget of :func:`strategy1` by itself.

  Args:
    controller: what decides the budget.
    window: W, at least 1: the controller's ``decide_every``.
    signal: whose values are averaged; others pass as they are.

  Returns:
    A :class:`Controller` with :class:`AveragedState`. A value that is not
    finite is left out.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes import controllers
    >>> from sparse_regimes.controllers import averaged
    >>> inner = controllers.strategy1(decide_every=2, ema_beta=0.0)
    >>> controller = averaged(inner, window=2)
    >>> state = controller.init()
    >>> for accuracy in (0.25, 0.75):
    ...   state = controller.update(state, accuracy=accuracy)
    >>> state.controller.ema
    Array(0.5, dtype=float32)

  Source: ours.
  """
  in_range("window", window, 1, MAX_COUNT)

  def init() -> AveragedState:
    return AveragedState(
      controller=controller.init(),
      mean=jnp.zeros((), jnp.float32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(
    state: AveragedState, value: jax.Array, signals: dict[str, Any]
  ) -> AveragedState:
    number = state.num_batches % window + 1
    # The first of a window leaves nothing of the last one.
    before = jnp.where(number == 1, 0.0, state.mean)
    mean = before + (value - before) / number.astype(jnp.float32)
    return AveragedState(
      controller=controller.update(
        state.controller, **{**signals, signal: mean}
      ),
      mean=mean,
      num_batches=number,
    )

  return following(init, make_signal("averaged", signal, None, 0.0), update)
