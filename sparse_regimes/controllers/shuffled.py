"""A control: a controller that hears of accuracy at the wrong time."""

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

# float32 each, in the state of every run that shuffles.
_MAX_WINDOW = 10**6


class ShuffledState(NamedTuple):
  """A controller's state, and the accuracies it may hear of.

  Attributes:
    controller: state of the controller that is misled.
    recent: accuracies of the latest batches, float32 ``[window]``, the n-th
      batch's at ``n % window``.
    num_batches: batches seen, int32 scalar.
  """

  controller: Any
  recent: jax.Array
  num_batches: jax.Array

  @property
  def keep_ratio(self) -> jax.Array:
    """The budget in force."""
    return self.controller.keep_ratio

  @property
  def total(self) -> jax.Array:
    """The budget of all sites together."""
    return total_budget(self.controller)


def shuffled(
  controller: Controller,
  *,
  window: int,
  draw_seed: int = 0,
  signal: str = "accuracy",
) -> Controller:
  r"""A controller that gets the accuracy of a random recent batch.

  .. math:: \tilde a_t = a_u, \quad
     u \sim \mathrm{Uniform}\{\max(1, t - W + 1), \ldots, t\}

  The accuracies it hears have the distribution of the last W batches, but say
  nothing about this moment: what is left of a strategy is its rule.

  Args:
    controller: what decides the budget.
    window: W, in ``[1, 10**6]``.
    draw_seed: of the draws; draw t depends on it and t alone.
    signal: whose values are shuffled; others pass as they are.

  Returns:
    A :class:`Controller` with :class:`ShuffledState`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes import controllers
    >>> from sparse_regimes.controllers import shuffled
    >>> controller = shuffled(controllers.strategy1(decide_every=1), window=8)
    >>> state = controller.update(controller.init(), accuracy=0.5)
    >>> state.controller.ema
    Array(0.5, dtype=float32)

  Source: ours.
  """
  in_range("window", window, 1, _MAX_WINDOW)
  in_range("draw_seed", draw_seed, 0, MAX_COUNT)

  def init() -> ShuffledState:
    return ShuffledState(
      controller=controller.init(),
      recent=jnp.zeros(window, jnp.float32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(
    state: ShuffledState, value: jax.Array, signals: dict[str, Any]
  ) -> ShuffledState:
    recent = state.recent.at[state.num_batches % window].set(value)
    num_batches = state.num_batches + 1
    drawn = jax.random.randint(
      jax.random.fold_in(jax.random.key(draw_seed), num_batches),
      (),
      0,
      jnp.minimum(num_batches, window),
    )
    return ShuffledState(
      controller=controller.update(
        state.controller, **{**signals, signal: recent[drawn]}
      ),
      recent=recent,
      num_batches=num_batches,
    )

  return following(init, make_signal("shuffled", signal, None, 0.0), update)
