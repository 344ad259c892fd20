"""What a controller is, and the average of a signal that strategies share."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.errors import InputError, in_range


class ControllerState(Protocol):
  """A pytree of arrays whose ``keep_ratio`` is the budget in force."""

  @property
  def keep_ratio(self) -> jax.Array:
    """float32 in ``[0, 1]``, a scalar or ``[num_sites]``."""


class Controller(NamedTuple):
  """A pair of pure functions that moves the keep ratio while training runs.

  Attributes:
    init: ``init() -> state``, a pytree of arrays; ``state.keep_ratio`` is the
      budget in force, float32, a scalar or one entry a site.
    update: ``update(state, **signals) -> state``, called once a training step
      with its ``loss`` and what else the step measured, such as ``accuracy``;
      all of them NaN if the step was skipped. The tree, shapes and dtypes stay
      those of ``init()``.

  :func:`guarded` makes one of two functions.

  Example:
    >>> from sparse_regimes import controllers
    >>> controller = controllers.strategy1(decide_every=1)
    >>> state = controller.init()
    >>> controller.update(state, accuracy=0.5).keep_ratio
    Array(0.982, dtype=float32)

  Source: ours.
  """

  init: Callable[[], Any]
  update: Callable[..., Any]


def innermost(state: Any) -> Any:
  """The state of the controller that others were put around.

  Example:
    >>> from sparse_regimes import controllers
    >>> from sparse_regimes.controllers import innermost
    >>> controller = controllers.watched(controllers.constant(0.5))
    >>> innermost(controller.init()).keep_ratio
    Array(0.5, dtype=float32)
  """
  while hasattr(state, "controller"):
    state = state.controller
  return state


def total_budget(state: Any) -> jax.Array:
  """The budget of all sites together, float32 scalar.

  It is a state's ``total`` where it has one, else the mean over its sites.

  Example:
    >>> from sparse_regimes import controllers
    >>> print(total_budget(controllers.constant((0.5, 0.1)).init()))
    0.3
  """
  total = getattr(state, "total", None)
  return jnp.mean(state.keep_ratio) if total is None else total


class Signal(NamedTuple):
  """Which of a step's signals a controller follows, and what is good.

  Attributes:
    name: such as ``accuracy`` or ``loss``.
    higher_is_better: whether more of it is.
    of: whose signal it is, for messages.
  """

  name: str
  higher_is_better: bool
  of: str = "the controller"

  def read(self, signals: dict[str, ArrayLike]) -> jax.Array:
    """Its value, float32.

    Raises:
      ValueError: listing the signals, if it is not among them, or if it is no
        scalar.
    """
    self.check(signals)
    value = signals[self.name]
    shapes = jax.tree.map(jnp.shape, value)
    if shapes != ():
      raise InputError(
        f"{self.of}'s signal {self.name!r} must be a scalar, got {shapes}"
      )
    return jnp.asarray(value, jnp.float32)

  def check(self, signals: dict[str, Any]) -> None:
    """Raises an ``InputError`` that lists the signals if it did not come."""
    if self.name not in signals:
      came = ", ".join(sorted(signals)) or "none"
      raise InputError(
        f"{self.of}'s signal {self.name!r} did not come, these did: {came};"
        " name one of them as its signal, or return it among aux['signals'] of"
        " the loss function"
      )

  def average(
    self,
    ema: jax.Array,
    best_ema: jax.Array,
    num_batches: jax.Array,
    value: jax.Array,
    *,
    ema_beta: ArrayLike,
  ) -> tuple[jax.Array, jax.Array]:
    r"""The signal's exponential moving average, and its best so far.

    .. math:: e_1 = a_1, \quad e_t = \beta e_{t-1} + (1 - \beta) a_t, \quad
       b_t = \max(b_{t-1}, e_t)

    with the least where less is better.

    Args:
      ema: :math:`e_{t-1}`, float32 scalar.
      best_ema: :math:`b_{t-1}`, float32 scalar.
      num_batches: batches seen before this one, int32 scalar.
      value: :math:`a_t`, scalar.
      ema_beta: :math:`\beta`.

    Returns:
      :math:`(e_t, b_t)`.
    """
    better = jnp.maximum if self.higher_is_better else jnp.minimum
    first = num_batches == 0
    ema = jnp.where(first, value, ema_beta * ema + (1 - ema_beta) * value)
    best_ema = jnp.where(first, ema, better(best_ema, ema))
    return ema, best_ema

  def drop(self, ema: jax.Array, best_ema: jax.Array) -> jax.Array:
    """How much worse the average is than its best, at least 0."""
    return best_ema - ema if self.higher_is_better else ema - best_ema


class VectorSignal(Signal):
  """A signal of several numbers, such as the nonzero fractions by site."""

  def read(self, signals: dict[str, ArrayLike]) -> jax.Array:
    """Its entries one after another, float32 ``[n]``.

    Raises:
      ValueError: listing the signals, if it is not among them, or if it is
        empty.
    """
    self.check(signals)
    leaves = jax.tree.leaves(signals[self.name])
    parts = [jnp.ravel(jnp.asarray(leaf, jnp.float32)) for leaf in leaves]
    if not sum(part.size for part in parts):
      raise ValueError(
        f"{self.of}'s signal {self.name!r} must have an entry, got none"
      )
    return jnp.concatenate(parts)


def make_signal(
  of: str, name: str, higher_is_better: bool | None, drop_tol: ArrayLike
) -> Signal:
  """A signal; raises a ``ValueError`` for a tolerance out of its range.

  Args:
    of: the controller.
    name: of the signal.
    higher_is_better: None for what the name says: less of a ``loss`` is.
    drop_tol: in ``[0, 1]`` for an accuracy; otherwise at least 0, in the
      signal's unit.
  """
  in_range("drop_tol", drop_tol, 0, 1 if name == "accuracy" else float("inf"))
  if higher_is_better is None:
    higher_is_better = name != "loss"
  return Signal(name, higher_is_better, of)


def lowered_best(
  ema: jax.Array, best_ema: jax.Array, best_decay: ArrayLike
) -> jax.Array:
  r"""The best after a decision: :math:`b - \lambda (b - e)`.

  Without it one lucky batch sets a mark for the rest of the run.
  """
  if isinstance(best_decay, (int, float)) and not best_decay:
    return best_ema
  return best_ema - best_decay * (best_ema - ema)


def guarded(init: Callable[[], Any], update: Callable[..., Any]) -> Controller:
  """A controller that a skipped step leaves as it is.

  Args:
    init: ``init() -> state``, with the ``keep_ratio`` in force; see
      :class:`Controller`.
    update: ``update(state, **signals) -> state``. Where a signal that it names,
      or any signal if it takes them all, is not finite, its result is not used.

  Returns:
    A :class:`Controller`. Its ``update`` takes any signals.

  Raises:
    ValueError: when a step is traced, listing the signals that came, if one
      that ``update`` names did not.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from typing import NamedTuple
    >>> from sparse_regimes.controllers import guarded
    >>> class State(NamedTuple):
    ...   keep_ratio: jax.Array
    >>> controller = guarded(
    ...   lambda: State(jnp.float32(1)),
    ...   lambda state, *, loss: State(jnp.where(loss < 1, 0.5, 1.0)),
    ... )
    >>> state = controller.update(controller.init(), loss=0.3, accuracy=0.9)
    >>> print(state.keep_ratio, controller.update(state, loss=jnp.nan))
    0.5 State(keep_ratio=Array(0.5, dtype=float32))

  Source: ours.
  """
  first, *parameters = inspect.signature(update).parameters.values()
  takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
  named = [
    p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
  ]

  def guarded_init() -> Any:
    return jax.tree.map(
      lambda x: x if isinstance(x, jax.Array) else jnp.asarray(x), init()
    )

  def guarded_update(state: Any, /, **signals: Any) -> Any:
    for parameter in named:
      if parameter.default is parameter.empty:
        Signal(parameter.name, True).check(signals)
    heard = {p.name: signals[p.name] for p in named if p.name in signals}
    watched = heard or signals
    finite = jnp.array(True)
    for leaf in jax.tree.leaves(watched):
      finite &= jnp.all(jnp.isfinite(jnp.asarray(leaf, jnp.float32)))
    if takes_all:
      # A signal may have the name that update gives the state.
      heard = {name: signals[name] for name in signals if name != first.name}
    new = update(state, **heard)
    return chosen(finite, new, state)

  return Controller(guarded_init, guarded_update)


def chosen(moves: jax.Array, new: Any, old: Any) -> Any:
  """The new state if ``moves``, with the shapes and dtypes of the old one."""

  def choose(new: Any, old: jax.Array) -> jax.Array:
    if jnp.shape(new) != old.shape:
      raise ValueError(
        f"a controller's state must keep its shapes, got {jnp.shape(new)} for"
        f" {old.shape}: give init() a budget of the shape that update makes"
      )
    if _is_whole(old.dtype) and not _is_whole(jnp.result_type(new)):
      raise ValueError(
        "a controller's state must keep its dtypes, got"
        f" {jnp.result_type(new)} for {old.dtype}: give init() a float, as"
        " jnp.float32(1)"
      )
    one = jnp.where(moves, new, old)
    return one if one.dtype == old.dtype else one.astype(old.dtype)

  return jax.tree.map(choose, new, old)


def _is_whole(dtype: Any) -> bool:
  return not jnp.issubdtype(dtype, jnp.inexact)


def following(
  init: Callable[[], Any],
  signal: Signal,
  update: Callable[[Any, jax.Array, dict[str, Any]], Any],
) -> Controller:
  """A guarded controller of one signal.

  Args:
    init: see :class:`Controller`.
    signal: what it follows.
    update: takes the state, the signal's value and all signals. Where the value
      is not finite, its result is not used.
  """

  def following_update(state: Any, /, **signals: Any) -> Any:
    value = signal.read(signals)
    finite = jnp.all(jnp.isfinite(value))
    return chosen(finite, update(state, value, signals), state)

  return Controller(init, following_update)
