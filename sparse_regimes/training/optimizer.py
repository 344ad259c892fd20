"""Learning-rate schedules and the optimizer, from explicit arguments."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparse_regimes.errors import in_range, one_of

SCHEDULES = ("cosine", "linear", "multistep", "constant")


def learning_rate_schedule(
  schedule: str,
  *,
  learning_rate: float,
  epochs: int,
  steps_per_epoch: int,
  per_step: bool = False,
  milestones: Sequence[int] = (60, 120, 160),
  decay_factor: float = 0.2,
) -> optax.Schedule:
  r"""The learning rate at a step.

  With t the epoch (a whole number, or the fraction reached if ``per_step``)
  and T = ``epochs``:

  .. math::
     \text{cosine}:\ \eta_t = \tfrac{1}{2} \eta_0 (1 + \cos(\pi t / T)) \quad
     \text{linear}:\ \eta_0 (1 - t / T) \quad
     \text{multistep}:\ \eta_t = \eta_0 f^{|\{m : m \le t\}|} \quad
     \text{constant}:\ \eta_0

  Args:
    schedule: ``cosine``, ``linear``, ``multistep`` or ``constant``.
    learning_rate: :math:`\eta_0`, at least 0.
    epochs: T, at least 1.
    steps_per_epoch: at least 1.
    per_step: cosine and linear move at every step instead of once an epoch.
    milestones: the epochs m at which ``multistep`` decays.
    decay_factor: f, in ``[0, 1]``.

  Returns:
    ``schedule(step) -> learning rate``, for optax.

  Raises:
    ValueError: for an unknown schedule or a value outside its range.

  Example:
    >>> from sparse_regimes.training.optimizer import learning_rate_schedule
    >>> rate = learning_rate_schedule(
    ...   "cosine", learning_rate=0.1, epochs=2, steps_per_epoch=10
    ... )
    >>> print(f"{rate(9):.3f} {rate(10):.3f}")
    0.100 0.050

  Source: the two schedules of the program of Wang, arXiv 2603.03131.
  """
  one_of("schedule", schedule, SCHEDULES)
  in_range("learning_rate", learning_rate, 0)
  in_range("decay_factor", decay_factor, 0, 1)

  def rate(step):
    # In integers: a float32 quotient may round to the epoch before.
    step = jnp.asarray(step, jnp.int32)
    epoch = (step // steps_per_epoch).astype(jnp.float32)
    if per_step:
      epoch += (step % steps_per_epoch).astype(jnp.float32) / steps_per_epoch
    if schedule == "cosine":
      return learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * epoch / epochs))
    if schedule == "linear":
      return learning_rate * (1 - epoch / epochs)
    if schedule == "multistep":
      num_decays = jnp.sum(epoch >= jnp.array(milestones, jnp.float32))
      return learning_rate * decay_factor ** num_decays.astype(jnp.float32)
    return jnp.full((), learning_rate, jnp.float32)

  return rate


def sgd(
  learning_rate: optax.ScalarOrSchedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = True,
  weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  r"""Stochastic gradient descent as PyTorch has it.

  .. math:: g \leftarrow g + \lambda w, \quad v \leftarrow \mu v + g, \quad
     w \leftarrow w - \eta\,(g + \mu v \text{ if nesterov else } v)

  Args:
    learning_rate: :math:`\eta`, a number or a schedule.
    momentum: :math:`\mu`, in ``[0, 1)``; 0 keeps no velocity.
    nesterov: whether to look ahead.
    weight_decay: :math:`\lambda`, at least 0, on every parameter.

  Returns:
    An optax transformation.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.training.optimizer import sgd
    >>> tx = sgd(0.1)
    >>> updates, _ = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))
    >>> print(f"{updates[0]:.3f}")
    -0.190
  """
  in_range("momentum", momentum, 0, 1, below=True)
  in_range("weight_decay", weight_decay, 0)
  step = optax.sgd(learning_rate, momentum=momentum or None, nesterov=nesterov)
  if weight_decay == 0:
    return step
  return optax.chain(optax.add_decayed_weights(weight_decay), step)


def adam(
  learning_rate: optax.ScalarOrSchedule,
  *,
  beta1: float = 0.9,
  beta2: float = 0.999,
  weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  r"""Adam, with decoupled weight decay if there is any (AdamW).

  Args:
    learning_rate: a number or a schedule.
    beta1: weight of the past in the mean, in ``[0, 1)``.
    beta2: of the square, in ``[0, 1)``.
    weight_decay: at least 0, on every parameter, times the learning rate.

  Returns:
    An optax transformation.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.training.optimizer import adam
    >>> tx = adam(0.1)
    >>> with jax.numpy_dtype_promotion("standard"):  # optax needs the default
    ...   updates, _ = tx.update(jnp.ones(1), tx.init(jnp.zeros(1)))
    >>> print(f"{updates[0]:.3f}")
    -0.100
  """
  in_range("momentum", beta1, 0, 1, below=True)
  in_range("beta2", beta2, 0, 1, below=True)
  in_range("weight_decay", weight_decay, 0)
  if weight_decay:
    return optax.adamw(
      learning_rate, b1=beta1, b2=beta2, weight_decay=weight_decay
    )
  return optax.adam(learning_rate, b1=beta1, b2=beta2)


class RestartsState(NamedTuple):
  """Scalars.

  Attributes:
    step: updates made, int32.
    restarted: the step of the last restart, int32.
    keep_ratio: of the step before, float32.
    learning_rate: of the step before, float32.
  """

  step: jax.Array
  restarted: jax.Array
  keep_ratio: jax.Array
  learning_rate: jax.Array


def warm_restarts(
  schedule: optax.Schedule, num_steps: int
) -> optax.GradientTransformationExtraArgs:
  r"""Scales by a schedule that begins anew whenever the budget rises.

  With s the step of the last reset and T all steps, the whole schedule
  :math:`\eta` is run through in those that are left:

  .. math:: \eta_t = \eta\left(T \, \frac{t - s}{T - s}\right)

  Chain it after a transformation of rate 1. Its update takes the controller's
  state, as :func:`sparse_regimes.make_train_step` passes it on.

  Args:
    schedule: step to learning rate.
    num_steps: T, at least 1.

  Returns:
    An optax transformation whose state has the ``learning_rate`` last used.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import controllers
    >>> from sparse_regimes.training.optimizer import warm_restarts
    >>> tx = warm_restarts(lambda step: 1 - step / 4, num_steps=4)
    >>> state = tx.init(None)
    >>> for keep_ratio in (1.0, 0.5, 1.0, 1.0):
    ...   budget = controllers.constant(keep_ratio).init()
    ...   _, state = tx.update(jnp.ones(1), state, controller_state=budget)
    ...   print(state.learning_rate)
    1.0
    0.75
    1.0
    0.5

  Source: ours, after Loshchilov and Hutter, "SGDR", arXiv 1608.03983.
  """
  in_range("num_steps", num_steps, 1)

  def init(params: Any) -> RestartsState:
    del params
    return RestartsState(
      step=jnp.zeros((), jnp.int32),
      restarted=jnp.zeros((), jnp.int32),
      # Above any: the first step is no rise.
      keep_ratio=jnp.full((), 2.0, jnp.float32),
      learning_rate=jnp.zeros((), jnp.float32),
    )

  def update(
    updates: Any,
    state: RestartsState,
    params: Any = None,
    *,
    controller_state: Any,
    **_: Any,
  ) -> tuple[Any, RestartsState]:
    del params
    keep_ratio = controller_state.keep_ratio
    restarted = jnp.where(
      keep_ratio > state.keep_ratio, state.step, state.restarted
    )
    done = (state.step - restarted) / jnp.maximum(1, num_steps - restarted)
    rate = jnp.asarray(schedule(jnp.round(done * num_steps)), jnp.float32)
    updates = jax.tree.map(lambda u: rate.astype(u.dtype) * u, updates)
    return updates, RestartsState(state.step + 1, restarted, keep_ratio, rate)

  return optax.GradientTransformationExtraArgs(init, update)


class RollbackState(NamedTuple):
  """What to go back to.

  Attributes:
    inner: state of the optimizer.
    good_params: parameters with which a reset was survived last.
    good_inner: state of the optimizer then.
    collapsed: whether a collapse was going on at the step before, bool scalar.
  """

  inner: optax.OptState
  good_params: Any
  good_inner: optax.OptState
  collapsed: jax.Array


def rollback(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """An optimizer that goes back to a healthy reset when a run collapses.

  When the budget falls for the first time after a reset, or the start, and
  accuracy is within tolerance, parameters and the optimizer's moments are
  noted, a copy of each; in the step after a collapse began they replace those
  in force (to float rounding: an update is added). The moment when accuracy was
  best would not do: it is often one of a low budget, at which the network has
  unlearned to work without.
  Counters go on: schedules are not set back. Running statistics of batch norm
  are not restored. Its update takes the state of a
  :func:`sparse_regimes.controllers.watched` controller, as
  :func:`sparse_regimes.make_train_step` passes it on.

  Args:
    inner: any optimizer; projections go behind this one.

  Returns:
    An optax transformation.

  Source: ours.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params: Any) -> RollbackState:
    # Each array is donated on its own, so none may be there twice.
    return RollbackState(
      inner=inner.init(params),
      good_params=jax.tree.map(jnp.copy, params),
      good_inner=inner.init(params),
      collapsed=jnp.zeros((), bool),
    )

  def update(
    updates: Any,
    state: RollbackState,
    params: Any = None,
    *,
    controller_state: Any,
    **extra: Any,
  ) -> tuple[Any, RollbackState]:
    def choose(condition, a, b):
      return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)

    survived = getattr(controller_state, "survived", None)
    if survived is None:
      raise ValueError(
        "controller_state must be that of controllers.watched(controller), got"
        f" {type(controller_state).__name__}"
      )
    good_params = choose(survived, params, state.good_params)
    good_inner = choose(survived, state.inner, state.good_inner)
    updates, new_inner = inner.update(
      updates, state.inner, params, controller_state=controller_state, **extra
    )
    returns = controller_state.collapsed & ~state.collapsed
    back = jax.tree.map(lambda good, p: good - p, good_params, params)
    is_moment = optax.tree_utils.tree_map_params(
      inner, lambda _: True, new_inner, transform_non_params=lambda _: False
    )
    inner_state = jax.tree.map(
      lambda is_moment, new, good: (
        jnp.where(returns, good, new) if is_moment else new
      ),
      is_moment,
      new_inner,
      good_inner,
    )
    return choose(returns, back, updates), RollbackState(
      inner=inner_state,
      good_params=good_params,
      good_inner=good_inner,
      collapsed=controller_state.collapsed,
    )

  return optax.GradientTransformationExtraArgs(init, update)


def learning_rate_of(opt_state: optax.OptState) -> float | None:
  """The rate that :func:`warm_restarts` used last; None without it."""

  def is_rollback(state: Any) -> bool:
    return isinstance(state, RollbackState)

  # It has the states of two moments.
  opt_state = jax.tree.map(
    lambda state: state.inner if is_rollback(state) else state,
    opt_state,
    is_leaf=is_rollback,
  )
  used = optax.tree_utils.tree_get(opt_state, "learning_rate")
  return None if used is None else float(used)
