"""An epoch of training: compiled calls of many steps, one after another."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding

from sparse_regimes.data.streaming import read_batches
from sparse_regimes.runs.mesh import place
from sparse_regimes.runs.pauses import Pauses
from sparse_regimes.training.state import TrainState

# On TPU and GPU: enough steps a call to hide its dispatch.
_MAX_STEPS_PER_CALL = 100
# Their batches lie on the device at once.
_MAX_STREAMED_STEPS = 10


def default_steps_per_call(
  backend: str, steps_per_epoch: int, *, is_streamed: bool = False
) -> int:
  """One step a call on CPU; elsewhere the largest divisor of an epoch to 100.

  On CPU a convolution inside ``lax.scan`` is some 36 times slower than outside.
  A divisor leaves no shorter last call, which would be compiled for, too. Where
  batches are streamed, at most 10.
  """
  if backend == "cpu":
    return 1
  most = _MAX_STREAMED_STEPS if is_streamed else _MAX_STEPS_PER_CALL
  most = min(most, steps_per_epoch)
  divisor = max(n for n in range(1, most + 1) if steps_per_epoch % n == 0)
  # Where an epoch hardly divides, the second compilation costs less.
  return divisor if divisor >= most // 4 else most


class Feed(Protocol):
  """Compiled steps, and where their batches come from."""

  def compile(self, state: TrainState, num_steps: int) -> None:
    """Compiles a call of so many steps."""

  def calls(
    self, indices: np.ndarray, steps_per_call: int
  ) -> Iterator[tuple[int, Callable[[TrainState], Any]]]:
    """Calls of steps in their order: how many, ``state -> (state, metrics)``.

    Args:
      indices: of the examples, int32 ``[num_steps, b]``.
      steps_per_call: at most.
    """


class FromDevice:
  """Batches are gathered out of examples that lie on every device.

  Args:
    train_call: of :func:`sparse_regimes.training.call.make_train_call`.
    examples: on the devices.
    sharding: of the indices.
    batch_size: examples a step.
  """

  def __init__(
    self, train_call: Any, examples: Any, sharding: Any, batch_size: int
  ):
    self._call, self._examples = train_call, examples
    self._sharding, self._batch_size = sharding, batch_size
    self._compiled: dict[int, Callable[..., Any]] = {}

  def compile(self, state: TrainState, num_steps: int) -> None:
    """As :meth:`Feed.compile`."""
    indices = np.zeros((num_steps, self._batch_size), np.int32)
    self._compiled[num_steps] = self._call.lower(
      state, self._examples, place(indices, self._sharding)
    ).compile()

  def calls(
    self, indices: np.ndarray, steps_per_call: int
  ) -> Iterator[tuple[int, Callable[[TrainState], Any]]]:
    """As :meth:`Feed.calls`."""
    for chunk in _chunks(indices, steps_per_call):
      call = self._compiled[len(chunk)]
      placed = place(chunk, self._sharding)
      yield (
        len(chunk),
        functools.partial(_swapped, call, self._examples, placed),
      )


class FromHost:
  """Batches are read ahead, and each device gets its part.

  Each process reads no other rows than those of its devices.

  Args:
    train_call: of :func:`sparse_regimes.training.call.make_train_call`, of
      batches.
    examples: on the host, see
      :func:`sparse_regimes.data.streaming.read_batches`.
    sharding: of batches ``[num_steps, b, ...]``.
    batch_size: examples a step.
  """

  def __init__(
    self, train_call: Any, examples: Any, sharding: Any, batch_size: int
  ):
    self._call, self._examples = train_call, examples
    self._sharding, self._batch_size = sharding, batch_size
    self._compiled: dict[int, Callable[..., Any]] = {}

  def compile(self, state: TrainState, num_steps: int) -> None:
    """As :meth:`Feed.compile`."""
    some = np.zeros((num_steps, self._batch_size), np.int64)
    batches = {
      name: jax.ShapeDtypeStruct(
        (*some.shape, *array.shape[1:]), array.dtype, sharding=self._sharding
      )
      for name, array in self._examples.items()
    }
    self._compiled[num_steps] = self._call.lower(state, batches).compile()

  def calls(
    self, indices: np.ndarray, steps_per_call: int
  ) -> Iterator[tuple[int, Callable[[TrainState], Any]]]:
    """As :meth:`Feed.calls`."""
    rows = _rows_here(self._sharding, self._batch_size)
    batches = read_batches(self._examples, indices[:, rows])
    for chunk in _chunks(indices, steps_per_call):
      each = list(itertools.islice(batches, len(chunk)))
      stacked = {
        name: jax.make_array_from_process_local_data(
          self._sharding,
          np.stack([batch[name] for batch in each]),
          (*chunk.shape, *each[0][name].shape[1:]),
        )
        for name in each[0]
      }
      call = self._compiled[len(chunk)]
      yield len(chunk), functools.partial(_swapped, call, stacked)


def _swapped(call: Callable[..., Any], *arguments: Any) -> Any:
  """The state comes last."""
  *others, state = arguments
  return call(state, *others)


def _rows_here(sharding: NamedSharding, batch_size: int) -> slice:
  """The rows of a batch that this process's devices hold: they lie together."""
  shape = (1, batch_size)
  slices = sharding.addressable_devices_indices_map(shape).values()
  bounds = [index[1].indices(batch_size) for index in slices if index]
  return slice(min(b[0] for b in bounds), max(b[1] for b in bounds))


def train_epoch(
  feed: Feed,
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
    feed: compiled for the lengths of its calls.
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
  for made, call in feed.calls(indices, steps_per_call):
    state, metrics = call(state)
    num_steps += made
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
