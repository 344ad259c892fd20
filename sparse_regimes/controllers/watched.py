"""Notices a network that does not come back after a reset."""

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


class WatchedState(NamedTuple):
  """A controller's state, and how its network fares.

  Attributes:
    controller: state of the controller that is watched.
    average: moving average of batch accuracy, float32 scalar.
    best_average: the highest ``average`` so far, float32 scalar.
    num_batches: batches seen, int32 scalar.
    since_reset: batches of low accuracy in a row, the budget having risen
      and not fallen before them, int32 scalar; -1 if it has not.
    collapsed: whether it has not come back in time, bool scalar.
    at_reset: whether the budget has not fallen since the last reset, or the
      start, bool scalar.
    survived: whether the budget now falls for the first time since then, at an
      accuracy within tolerance, bool scalar: the network has survived a reset.
  """

  controller: Any
  average: jax.Array
  best_average: jax.Array
  num_batches: jax.Array
  since_reset: jax.Array
  collapsed: jax.Array
  at_reset: jax.Array
  survived: jax.Array

  @property
  def keep_ratio(self) -> jax.Array:
    """The budget in force."""
    return self.controller.keep_ratio

  @property
  def total(self) -> jax.Array:
    """The budget of all sites together."""
    return total_budget(self.controller)


def watched(
  controller: Controller,
  *,
  patience: int = 1280,
  drop_tol: float = 0.12,
  ema_beta: float = 0.9,
  signal: str = "accuracy",
  higher_is_better: bool | None = None,
) -> Controller:
  r"""A controller that does what another does, and sees a collapse.

  With e the accuracy's moving average and b its best so far, a network has
  collapsed when :math:`b - e > \tau` in P batches in a row after one with which
  the budget rose, and before any with which it fell; it has recovered when
  :math:`b - e \le \tau`. The average may fall after the reset: the strategies
  follow a faster one. With a budget for each site their mean counts, or the
  total that they share (:func:`shared`). Nothing that the controller decides
  depends on it.

  Args:
    controller: what decides the budget.
    patience: P, batches of low accuracy that a network gets, at least 1.
    drop_tol: :math:`\tau`: for accuracy in ``[0, 1]``, otherwise at least 0.
    ema_beta: weight of the past in the average, in ``[0, 1)``.
    signal: the signal that is followed, ``accuracy`` or another of the step's:
      ``loss``, or what a loss function returns among ``aux["signals"]``.
    higher_is_better: whether more of it is; None for what its name says: less
      of a ``loss`` is, more of anything else.

  Returns:
    A :class:`Controller` with :class:`WatchedState`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes import controllers
    >>> from sparse_regimes.controllers import watched
    >>> controller = watched(
    ...   controllers.strategy1(decide_every=1, cooldown=0),
    ...   patience=2, ema_beta=0.0,
    ... )
    >>> state = controller.init()
    >>> for accuracy in (0.9, 0.1, 0.1, 0.1, 0.9):
    ...   state = controller.update(state, accuracy=accuracy)
    ...   print(f"{state.keep_ratio:.3f}", state.collapsed)
    0.982 False
    1.000 False
    1.000 False
    1.000 True
    1.000 False

  Source: ours.
  """
  in_range("patience", patience, 1, MAX_COUNT)
  follows = make_signal("watched", signal, higher_is_better, drop_tol)
  in_range("ema_beta", ema_beta, 0, 1, below=True)

  def init() -> WatchedState:
    return WatchedState(
      controller=controller.init(),
      average=jnp.zeros((), jnp.float32),
      best_average=jnp.zeros((), jnp.float32),
      num_batches=jnp.zeros((), jnp.int32),
      since_reset=jnp.full((), -1, jnp.int32),
      collapsed=jnp.zeros((), bool),
      at_reset=jnp.ones((), bool),
      survived=jnp.zeros((), bool),
    )

  def update(
    state: WatchedState, value: jax.Array, signals: dict[str, Any]
  ) -> WatchedState:
    new = controller.update(state.controller, **signals)
    average, best_average = follows.average(
      state.average,
      state.best_average,
      state.num_batches,
      value,
      ema_beta=ema_beta,
    )
    is_low = follows.drop(average, best_average) > drop_tol
    before, now = state.total, total_budget(new)
    rose, fell = now > before, now < before
    count = state.since_reset
    count = jnp.where(is_low, count, jnp.minimum(count, 0))
    # Once accuracy is low, no move of the budget is a recovery.
    counted = jnp.where((count == 0) & fell, -1, count)
    since_reset = jnp.where(
      is_low & (counted >= 0),
      # Saturates: a run may stay collapsed for long.
      jnp.minimum(counted + 1, patience),
      jnp.where(rose, 0, counted),
    )
    return WatchedState(
      controller=new,
      average=average,
      best_average=best_average,
      num_batches=state.num_batches + 1,
      since_reset=since_reset,
      collapsed=since_reset >= patience,
      at_reset=rose | (state.at_reset & ~fell),
      survived=state.at_reset & fell & ~is_low,
    )

  return following(init, follows, update)
