"""Between two calls of the training step: save now? stop now?"""

import time
from signal import SIGTERM

import jax
from ml_collections import ConfigDict

from sparse_regimes.runs.checkpoint import Checkpoints
from sparse_regimes.runs.journal import Journal
from sparse_regimes.runs.processes import any_of_all, is_first, preempted
from sparse_regimes.runs.stopping import Stopped, StopSignals
from sparse_regimes.training.state import TrainState


class Pauses:
  """Decides, alike on all processes, when a run saves its state and stops.

  Args:
    config: of the run.
    checkpoints: where states are saved.
    journal: of the run; its clock goes on from here.
    stop: what the system or a person asks for.
  """

  def __init__(
    self,
    config: ConfigDict,
    checkpoints: Checkpoints,
    journal: Journal,
    stop: StopSignals,
  ):
    self._config = config.checkpoint
    self._checkpoints = checkpoints
    self._journal = journal
    self._stop = stop
    self._clock_started = time.monotonic() - journal.seconds
    self._saved_at = time.monotonic()
    self._saved_step = journal.step
    self._num_calls = 0
    self._stopping = False

  def due(self, num_steps: int) -> bool:
    """Whether the state is to be saved, to be asked after every call.

    Args:
      num_steps: made so far, those included whose metrics are on their way.

    Raises:
      OSError: if the last save failed in the background.
    """
    self._checkpoints.check()
    self._num_calls += 1
    minutes = (time.monotonic() - self._saved_at) / 60
    # Clocks differ, so the first process's counts.
    in_time = 0 < self._config.every_minutes <= minutes and is_first()
    stop, save = any_of_all(self._stop.requested is not None, in_time)
    self._stopping = preempted(self._num_calls) or stop
    steps = num_steps - self._saved_step
    return self._stopping or save or 0 < self._config.every_steps <= steps

  def save(self, state: TrainState, *, stopping: bool = False) -> None:
    """Saves the state and the journal up to it, and stops if that was agreed.

    Args:
      state: to be saved.
      stopping: whether the caller is about to stop.

    Raises:
      Stopped: when the state is safely there.
      OSError: if it cannot be saved.
    """
    self.update_seconds()
    self._checkpoints.save(state, self._journal)
    self._saved_at, self._saved_step = time.monotonic(), self._journal.step
    if self._stopping or stopping:
      self._checkpoints.wait()
      raise Stopped(self._stop.requested or SIGTERM)

  def update_seconds(self) -> None:
    """Sets the journal's wall clock to now."""
    self._journal.seconds = time.monotonic() - self._clock_started

  def end_epoch(self, state: TrainState, *, is_last: bool) -> None:
    """Saves after an evaluation if the config asks for it."""
    epoch, every = len(self._journal.records), self._config.every_epochs
    is_best = self._journal.best is self._journal.records[-1]
    if is_last or is_best or (every and epoch % every == 0):
      self.save(state)

  def give_up(self) -> None:
    """Raises :class:`Stopped` in the middle of an evaluation.

    Not among several processes, which have to evaluate together.
    """
    if jax.process_count() == 1:
      self._stop.check()
