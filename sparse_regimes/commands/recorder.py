"""What a run leaves: lines while it trains, pictures, a page at the end."""

import contextlib
import functools
import json
import shlex
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import optax

from sparse_regimes.controllers import innermost
from sparse_regimes.errors import InputError
from sparse_regimes.files import write
from sparse_regimes.runs import processes, summary
from sparse_regimes.runs.config import flatten
from sparse_regimes.runs.journal import Journal, Record, finite, record_names
from sparse_regimes.runs.loggers import makers_of, of_sites
from sparse_regimes.runs.opened import OpenRun
from sparse_regimes.runs.pace import Pace
from sparse_regimes.runs.trace import Trace
from sparse_regimes.runs.writers import MetricWriter, Progress, write_records
from sparse_regimes.tasks import length, rate_of
from sparse_regimes.training.optimizer import learning_rate_of
from sparse_regimes.training.state import TrainState

# A picture takes about half a second: draw no more than one in this time.
_SECONDS_BETWEEN_PICTURES = 20.0


class Recorder:
  """Keeps a run's files and the person in front of it up to date.

  Args:
    run: of which a part is still to be trained.
  """

  def __init__(self, run: OpenRun):
    self._run = run
    self._drawn = time.monotonic()
    # In which people count; images, by default.
    self._pace_in = rate_of(run.task, run.config)
    self.pace = Pace(
      batch_size=run.config.train.batch_size,
      unit=self._pace_in[0],
      each=self._pace_in[1],
      num_evaluated=sum(map(length, run.task.evaluation_sets.values())),
    )

  def __enter__(self) -> Self:
    run = self._run
    if processes.is_first():
      # Of a run that diverged, or was shorter, and goes on.
      (run.workdir / summary.SUMMARY_FILE).unlink(missing_ok=True)
      command = {"command": shlex.join(sys.orig_argv)}
      write(
        run.workdir / summary.ENVIRONMENT_FILE,
        json.dumps(command | summary.environment(), indent=2) + "\n",
      )
    with contextlib.ExitStack() as stack:
      self._writer = stack.enter_context(
        MetricWriter(
          run.workdir,
          run.journal.records,
          config=flatten(run.config),
          backends=makers_of(run.config.log.backends),
        )
      )
      self.progress = stack.enter_context(
        Progress(
          epochs=run.epochs,
          steps_per_epoch=run.steps_per_epoch,
          pace=self.pace,
          log=run.log,
          describe_cost=functools.partial(
            summary.describe_cost,
            epochs=run.epochs,
            steps_per_epoch=run.steps_per_epoch,
            steps_made=run.journal.step,
          ),
          first_step=run.journal.step,
          metric=run.journal.metric,
        )
      )
      # Until here whatever was opened is closed if the next cannot be.
      self._stack = stack.pop_all()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    self._stack.close()

  def steps(self, metrics: Any) -> Mapping[str, np.ndarray]:
    """Accounts for a call's metrics, and returns them from the device."""
    steps = jax.device_get(metrics)
    self._run.journal.add_steps(steps)
    self.progress.steps(steps)
    return steps

  def epoch(self, epoch: int, measured: Record, *, trained: bool) -> None:
    """Ends an epoch: a record, its line, TensorBoard.

    Args:
      epoch: from 1.
      measured: what the evaluations gave.
      trained: whether it trained in this process, so that its pace is known.
    """
    run, journal = self._run, self._run.journal
    rate = learning_rate(
      run.parts.schedule, run.state, journal, run.config.train.accumulate
    )
    record = measured | {
      "epoch": epoch,
      "step": journal.step,
      "learning_rate": rate,
      **controller_record(run.state),
      "train_loss": journal.mean("loss"),
      f"train_{journal.metric}": journal.mean(journal.metric),
      "train_nonzero": journal.mean("nonzero"),
      "images_per_second": self.pace.images_per_second if trained else None,
    }
    journal.end_epoch(record)
    budget = journal.budget
    self._writer.write(
      journal.records,
      sites=of_sites(journal.details[-1], [*run.arithmetic[1]]),
      moves=[*zip(budget.steps, budget.keep_ratios, strict=True)],
    )
    self.progress.line(
      summary.describe_epoch(
        record, journal, run.epochs, run.arithmetic, self._pace_in
      )
    )

  def diverged(self, epoch: int) -> None:
    """Writes what is known of an epoch that was broken off, and the end."""
    run = self._run
    broken_off = unfinished_record(run.journal, epoch)
    self._writer.write([*run.journal.records, broken_off])
    run.pauses.update_seconds()
    # As far as it came, for tables of many runs.
    finish(run, diverged=True)

  def draw(self) -> None:
    """Draws the curves anew, if the last time is a while ago."""
    late = time.monotonic() - self._drawn > _SECONDS_BETWEEN_PICTURES
    if processes.is_first() and self._run.config.log.page and late:
      _draw_curves(self._run)
      self._drawn = time.monotonic()


def finish(run: OpenRun, *, diverged: bool = False) -> dict[str, Any]:
  """Writes what a run came to; returns its summary."""
  pace_in = rate_of(run.task, run.config)
  result = summary.summarize(run.config, run.journal, run.arithmetic, pace_in)
  result["diverged"] = diverged
  if processes.is_first():
    if run.journal.records:
      if not diverged:
        # Of a run that had ended before, what was deleted is there again.
        write_records(run.workdir, run.journal.records)
      if run.config.log.page:
        _write_page(run)
      else:
        Trace.of(run.journal, run.arithmetic).write(run.workdir)
    # Last: with it a run counts as finished, and nothing of it is missing.
    text = json.dumps(result, indent=2) + "\n"
    write(run.workdir / summary.SUMMARY_FILE, text)
  return result


def controller_record(state: TrainState) -> Record:
  """The controller's part of a record; null where it has no such quantity."""
  controller_state = innermost(state.controller_state)
  patience = getattr(controller_state, "waiting", None)
  values = {
    # What is in force: a controller may be told to wait.
    "keep_ratio": state.controller_state.keep_ratio,
    "ema_accuracy": getattr(controller_state, "ema", None),
    "best_ema_accuracy": getattr(controller_state, "best_ema", None),
    "cooldown": getattr(controller_state, "cooldown", patience),
  }
  return {
    name: None if value is None else np.mean(jax.device_get(value)).item()
    for name, value in values.items()
  }


def learning_rate(
  schedule: optax.Schedule, state: TrainState, journal: Journal, accumulate: int
) -> float:
  """The rate of the last step."""
  used = learning_rate_of(state.opt_state)
  if used is not None:
    return used
  # A step that was skipped is none to the schedule.
  last = max(0, journal.step - journal.skipped - 1)
  return float(schedule(last // accumulate * accumulate))


def unfinished_record(journal: Journal, epoch: int) -> Record:
  """What is known of an epoch that was broken off; null for the rest."""
  known = {
    "epoch": epoch,
    "step": journal.step,
    "keep_ratio": journal.budget.last,
    f"train_{journal.metric}": journal.mean(journal.metric),
    "train_nonzero": journal.mean("nonzero"),
  }
  names = record_names(journal.metric)
  return finite({name: known.get(name) for name in names})


def _write_page(run: OpenRun) -> None:
  # Drawing is slow to import, and a run may do without.
  from sparse_regimes.reports.run_page import write_report

  _draw_curves(run)
  try:
    write_report(run.workdir, seconds=run.journal.seconds)
  except InputError as error:
    # A file beside the run is damaged; the run is not.
    run.log(f"no page     {error}")


def _draw_curves(run: OpenRun) -> None:
  from sparse_regimes.reports import figures, pictures

  trace = Trace.of(run.journal, run.arithmetic)
  trace.write(run.workdir)
  figure = figures.curves(run.journal.records, trace)
  write(run.workdir / "curves.png", pictures.png(figure))
