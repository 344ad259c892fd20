"""An epoch of training: compiled calls of many steps, one after another."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from sparse_regimes.runs.mesh import place
from sparse_regimes.runs.pauses import Pauses
from sparse_regimes.training.state import TrainState

# On TPU and GPU: enough steps a call to hide its dispatch.
_MAX_STEPS_PER_CALL = 100


def default_steps_per_call(backend: str, steps_per_epoch: int) -> int:
  """One step a call on CPU; elsewhere the largest divisor of an epoch to 100.

  On CPU a convolution inside ``lax.scan`` is some 36 times slower than outside.
  A divisor leaves no shorter last call, which would be compiled for, too.
  """
  if backend == "cpu":
    return 1
  most = min(_MAX_STEPS_PER_CALL, steps_per_epoch)
  divisor = max(n for n in range(1, most + 1) if steps_per_epoch % n == 0)
  # Where an epoch hardly divides, the second compilation costs less.
  return divisor if divisor >= most // 4 else most


def compiled_call(
  train_call: Any,
  train_split: tuple[jax.Array, jax.Array],
  sharding: NamedSharding,
) -> Callable[..., Any]:
  """``train_call`` on host indices, compiled for each number of steps.

  Args:
    train_call: of :func:`sparse_regimes.training.step.make_train_call`.
    train_split: images and labels on the devices.
    sharding: of the indices.

  Returns:
    ``call(state, indices) -> (state, metrics)``; with ``run=False`` it only
    compiles.
  """
  compiled: dict[int, Callable[..., Any]] = {}

  def call(state: TrainState, indices: np.ndarray, *, run: bool = True) -> Any:
    arguments = (state, *train_split, place(indices, sharding))
    if len(indices) not in compiled:
      compiled[len(indices)] = train_call.lower(*arguments).compile()
    return compiled[len(indices)](*arguments) if run else None

  return call


def train_epoch(
  train_call: Callable[..., Any],
  state: TrainState,
  indices: np.ndarray,
  steps_per_call: int,
  account: Callable[[Any], None],
  pauses: Pauses,
  num_steps: int,
) -> TrainState:
  """Runs an epoch's calls, and hands every call's metrics to ``account``.

  Metrics are fetched when the next call is on its way, so the device never
  waits for the host; only before a pause is everything accounted for.

  Args:
    train_call: of :func:`compiled_call`.
    state: before the first step.
    indices: of the examples, int32 ``[num_steps, b]``.
    steps_per_call: at most.
    account: takes the metrics of a call, on the device.
    pauses: saves the state when it is time.
    num_steps: made before.

  Returns:
    The state after the last step.
  """
  pending = None
  for chunk in _chunks(indices, steps_per_call):
    state, metrics = train_call(state, chunk)
    num_steps += len(chunk)
    if pending is not None:
      account(pending)
    pending = metrics
    if pauses.due(num_steps):
      account(pending)
      pending = None
      pauses.save(state)
  if pending is not None:
    account(pending)
  return state


def _chunks(indices: np.ndarray, size: int) -> Iterator[np.ndarray]:
  for start in range(0, len(indices), size):
    yield indices[start : start + size]
