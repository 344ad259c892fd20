"""Learning-rate schedules and the optimizer, from explicit arguments."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax

from sparse_regimes.errors import in_range, one_of

SCHEDULES = ("cosine", "multistep", "constant")


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
     \text{multistep}:\ \eta_t = \eta_0 f^{|\{m : m \le t\}|} \quad
     \text{constant}:\ \eta_0

  Args:
    schedule: ``cosine``, ``multistep`` or ``constant``.
    learning_rate: :math:`\eta_0`, at least 0.
    epochs: T, at least 1.
    steps_per_epoch: at least 1.
    per_step: cosine moves at every step instead of once an epoch.
    milestones: the epochs m at which ``multistep`` decays.
    decay_factor: f, in ``[0, 1]``.

  Returns:
    ``schedule(step) -> learning rate``, for optax.

  Raises:
    ValueError: for an unknown schedule or a value outside its range.

  Example:
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
