"""An epoch of training: compiled calls of many steps, one after another."""

import abc
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from sparse_regimes.data.streaming import read_batches
from sparse_regimes.runs.mesh import place
from sparse_regimes.runs.pauses import Pauses
from sparse_regimes.training.state import TrainState

# On TPU and GPU: enough steps a call to hide its dispatch.
_MAX_STEPS_PER_CALL = 100
# On CPU a small network's step takes a third less inside ``lax.scan``, where
# one operation follows another, than outside, where XLA starts several at once.
_MAX_STEPS_ON_CPU = 8
# Multiply-adds of a call's forward passes: some two seconds, as a signal is
# answered between calls.
_MAX_MULTIPLY_ADDS_ON_CPU = 2e10
# Their batches lie on the device at once.
_MAX_STREAMED_STEPS = 10


def default_steps_per_call(
  backend: str,
  steps_per_epoch: int,
  *,
  is_streamed: bool = False,
  convolves: bool = False,
  every_steps: int = 0,
  multiply_adds: float = 0,
) -> int:
  """The largest divisor of an epoch up to 100, on CPU up to 8.

  A divisor leaves no shorter last call, which would be compiled for, too. Where
  batches are streamed, at most 10; where the state is saved ``every_steps``, at
  most that. On CPU a convolution inside ``lax.scan`` is
  some 36 times slower than outside: where there is one, one step a call; and
  fewer than 8 where a step's forward pass has many ``multiply_adds``.
  """
  if backend == "cpu" and convolves:
    return 1
  most = _MAX_STEPS_PER_CALL
  if backend == "cpu":
    fitting = int(_MAX_MULTIPLY_ADDS_ON_CPU / max(1, multiply_adds))
    most = max(1, min(_MAX_STEPS_ON_CPU, fitting))
  if is_streamed:
    most = min(most, _MAX_STREAMED_STEPS)
  if every_steps:
    most = min(most, every_steps)
  most = min(most, steps_per_epoch)
  divisor = max(n for n in range(1, most + 1) if steps_per_epoch % n == 0)
  # Where an epoch hardly divides, the second compilation costs less.
  return divisor if divisor >= most // 4 else most


class Feed(abc.ABC):
  """Compiled calls of steps, and where their batches come from.

  Args:
    train_call: of :func:`sparse_regimes.training.call.make_train_call`.
    examples: of which batches are made, by name.
    sharding: of batches, or of the indices, ``[num_steps, b]``.
    batch_size: examples a step.
  """

  def __init__(
    self, train_call: Any, examples: Any, sharding: Any, batch_size: int
  ):
    self._call, self._examples = train_call, examples
    self._sharding, self._batch_size = sharding, batch_size
    self._compiled: dict[int, Callable[..., Any]] = {}

  def convolves(self, state: TrainState) -> bool:
    """Whether a step has a convolution."""
    traced = self._call.trace(state, *self._example(1))
    return "conv_general_dilated" in str(traced.jaxpr)

  def compile(self, state: TrainState, num_steps: int) -> None:
    """Compiles a call of so many steps."""
    lowered = self._call.lower(state, *self._example(num_steps))
    self._compiled[num_steps] = lowered.compile()

  def calls(
    self, indices: np.ndarray, steps_per_call: int
  ) -> Iterator[tuple[int, Callable[[TrainState], Any]]]:
    """Calls of steps in their order: how many, ``state -> (state, metrics)``.

    Args:
      indices: of the examples, int32 ``[num_steps, b]``.
      steps_per_call: at most.
    """
    for num_steps, arguments in self._arguments(indices, steps_per_call):
      call = self._compiled[num_steps]
      yield num_steps, functools.partial(_with_state, call, arguments)

  @abc.abstractmethod
  def _example(self, num_steps: int) -> tuple[Any, ...]:
    """What a call takes besides the state, or its shapes."""

  @abc.abstractmethod
  def _arguments(
    self, indices: np.ndarray, steps_per_call: int
  ) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """How many steps a call has, and what it takes besides the state."""


class FromDevice(Feed):
  """Batches are gathered out of examples that lie on every device."""

  def _example(self, num_steps: int) -> tuple[Any, ...]:
    indices = np.zeros((num_steps, self._batch_size), np.int32)
    return self._examples, place(indices, self._sharding)

  def _arguments(
    self, indices: np.ndarray, steps_per_call: int
  ) -> Iterator[tuple[int, tuple[Any, ...]]]:
    for chunk in _chunks(indices, steps_per_call):
      yield len(chunk), (self._examples, place(chunk, self._sharding))


class FromHost(Feed):
  """Batches are read ahead, and each device gets its part.

  Each process reads no other rows than those of its devices. How examples are
  read: :func:`sparse_regimes.data.streaming.read_batches`.
  """

  def _example(self, num_steps: int) -> tuple[Any, ...]:
    leading = (num_steps, self._batch_size)
    batches = {
      name: jax.ShapeDtypeStruct(
        (*leading, *array.shape[1:]), array.dtype, sharding=self._sharding
      )
      for name, array in self._examples.items()
    }
    return (batches,)

  def _arguments(
    self, indices: np.ndarray, steps_per_call: int
  ) -> Iterator[tuple[int, tuple[Any, ...]]]:
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
      yield len(chunk), (stacked,)


def _with_state(
  call: Callable[..., Any], arguments: tuple[Any, ...], state: TrainState
) -> Any:
  return call(state, *arguments)


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
