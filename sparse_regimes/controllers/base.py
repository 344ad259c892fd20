"""What a controller is, and the accuracy average that the strategies share."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp


class ControllerState(Protocol):
  """A pytree of arrays whose ``keep_ratio`` is the budget in force."""

  @property
  def keep_ratio(self) -> jax.Array:
    """float32 scalar in ``[0, 1]``."""


class Controller(NamedTuple):
  """A pair of pure functions that moves the keep ratio while training runs.

  Attributes:
    init: ``init() -> state``, a NamedTuple of arrays; ``state.keep_ratio`` is
      the budget in force, a float32 scalar.
    update: ``update(state, *, accuracy, **signals) -> state``, called once a
      training batch with that batch's accuracy in ``[0, 1]``. The tree, shapes
      and dtypes stay those of ``init()``. An accuracy that is not finite
      changes nothing. Other signals are for controllers of your own.

  Example:
    >>> from sparse_regimes import controllers
    >>> controller = controllers.strategy1(decide_every=1)
    >>> state = controller.init()
    >>> controller.update(state, accuracy=0.5).keep_ratio
    Array(0.982, dtype=float32)
  """

  init: Callable[[], Any]
  update: Callable[..., Any]


def innermost(state: Any) -> Any:
  """The state of the controller that others were put around.

  Example:
    >>> from sparse_regimes import controllers
    >>> controller = controllers.watched(controllers.constant(0.5))
    >>> innermost(controller.init()).keep_ratio
    Array(0.5, dtype=float32)
  """
  while hasattr(state, "controller"):
    state = state.controller
  return state


def average_accuracy(
  ema: jax.Array,
  best_ema: jax.Array,
  num_batches: jax.Array,
  accuracy: jax.Array,
  *,
  ema_beta: float,
) -> tuple[jax.Array, jax.Array]:
  r"""The exponential moving average of accuracy, and its best so far.

  .. math:: e_1 = a_1, \quad e_t = \beta e_{t-1} + (1 - \beta) a_t, \quad
     b_t = \max(b_{t-1}, e_t)

  Args:
    ema: :math:`e_{t-1}`, float32 scalar.
    best_ema: :math:`b_{t-1}`, float32 scalar.
    num_batches: batches seen before this one, int32 scalar.
    accuracy: :math:`a_t`, scalar in ``[0, 1]``.
    ema_beta: :math:`\beta`.

  Returns:
    :math:`(e_t, b_t)`.
  """
  first = num_batches == 0
  ema = jnp.where(first, accuracy, ema_beta * ema + (1 - ema_beta) * accuracy)
  best_ema = jnp.where(first, ema, jnp.maximum(best_ema, ema))
  return ema, best_ema


def lowered_best(
  ema: jax.Array, best_ema: jax.Array, best_decay: float
) -> jax.Array:
  r"""The best after a decision: :math:`b - \lambda (b - e)`.

  Without it one lucky batch sets a mark for the rest of the run.
  """
  return best_ema - best_decay * (best_ema - ema) if best_decay else best_ema


def only_if_finite(
  update: Callable[..., Any],
) -> Callable[..., Any]:
  """Makes an update that a NaN or an infinite accuracy leaves without effect.

  Args:
    update: takes the state and a float32 accuracy.

  Returns:
    ``update(state, *, accuracy, **signals)`` as a :class:`Controller` has it.
  """

  def guarded(state: Any, *, accuracy: jax.typing.ArrayLike, **_: Any) -> Any:
    accuracy = jnp.asarray(accuracy, jnp.float32)
    finite = jnp.isfinite(accuracy)
    return jax.tree.map(
      lambda new, old: jnp.where(finite, new, old),
      update(state, accuracy),
      state,
    )

  return guarded
