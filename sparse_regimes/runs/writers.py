"""What a run tells while it trains: JSON lines, a progress bar."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from etils import epath
from tqdm import tqdm

from sparse_regimes.files import is_remote, write
from sparse_regimes.runs.journal import Record
from sparse_regimes.runs.loggers import Logger, Start, grouped
from sparse_regimes.runs.pace import Pace, format_seconds
from sparse_regimes.runs.processes import is_first

METRICS_FILE = "metrics.jsonl"
# Steps timed before the cost of the run is announced.
_STEPS_TO_ESTIMATE = 5
_SHORT = {"accuracy": "acc"}


def write_records(workdir: epath.Path, records: Sequence[Record]) -> None:
  """Writes ``metrics.jsonl`` anew, at once: no line is ever cut or doubled."""
  lines = (json.dumps(r, allow_nan=False) + "\n" for r in records)
  write(workdir / METRICS_FILE, "".join(lines))


class MetricWriter:
  """``metrics.jsonl``, a line an epoch, and whatever else logs the run.

  Only the first of several processes writes. Loggers need a disk: a bucket gets
  the lines alone.

  Args:
    workdir: the run's folder.
    records: of the epochs before.
    config: fields by ``section.field``, for the loggers.
    backends: make a logger each.
  """

  def __init__(
    self,
    workdir: epath.Path,
    records: Sequence[Record],
    *,
    config: Mapping[str, Any] | None = None,
    backends: Sequence[Callable[[Start], Logger]] = (),
  ):
    self._workdir = workdir
    self._loggers: list[Logger] = []
    if not is_first():
      return
    write_records(workdir, records)
    self._logged = records[-1]["step"] if records else 0
    if not is_remote(workdir):
      start = Start(Path(workdir), config or {}, self._logged)
      self._loggers = [make(start) for make in backends]

  def write(
    self,
    records: Sequence[Record],
    *,
    sites: Mapping[str, float] | None = None,
    moves: Sequence[tuple[int, float]] = (),
  ) -> None:
    """Writes all records, of which the last is new.

    Args:
      records: of all epochs.
      sites: numbers of the last epoch by site, for the loggers.
      moves: the budget's, ``(step, keep_ratio)``; those since the last epoch
        are logged at their steps.
    """
    if not is_first():
      return
    write_records(self._workdir, records)
    record = records[-1]
    for logger in self._loggers:
      for step, keep_ratio in moves:
        if self._logged < step < record["step"]:
          logger.write(step, {"controller/keep_ratio": keep_ratio})
      logger.write(record["step"], grouped(record) | dict(sites or {}))
    self._logged = record["step"]

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    for logger in self._loggers:
      logger.close()


class Progress:
  """A live bar on a terminal, plain lines elsewhere.

  Args:
    epochs: of the run.
    steps_per_epoch: of the run.
    pace: kept up to date with the seconds a step takes.
    describe_cost: what to say of the pace after the first steps.
    first_step: steps made before this start of the run.
    metric: of the task.
    seconds_between_lines: at most one plain line in this time, besides those
      of :meth:`line`.
  """

  def __init__(
    self,
    *,
    epochs: int,
    steps_per_epoch: int,
    pace: Pace,
    describe_cost: Callable[[Pace], str],
    log: Callable[[str], None],
    first_step: int = 0,
    metric: str = "accuracy",
    seconds_between_lines: float = 30.0,
  ):
    self._epochs = epochs
    self._steps_per_epoch = steps_per_epoch
    self._pace = pace
    self._describe_cost: Callable[[Pace], str] | None = describe_cost
    self._seconds_between_lines = seconds_between_lines
    self._metric = metric
    self._last_line = time.monotonic()
    self._bar = None
    self._log = log
    if log is print and sys.stderr.isatty() and is_first():
      self._bar = tqdm(
        total=epochs * steps_per_epoch,
        initial=first_step,
        dynamic_ncols=True,
        bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {desc}",
      )

  def start_epoch(self, epoch: int, steps_before: int = 0) -> None:
    """Notes that an epoch, counted from 1, begins or goes on to train."""
    self._epoch, self._epoch_started = epoch, time.monotonic()
    self._before, self._done = steps_before, 0

  def steps(self, metrics: Mapping[str, np.ndarray]) -> None:
    """Shows the last of some steps' metrics, ``[num_steps]`` each."""
    num_steps = len(metrics["loss"])
    self._done += num_steps
    seconds = time.monotonic() - self._epoch_started
    self._pace.seconds_per_step = seconds / self._done
    announce = min(_STEPS_TO_ESTIMATE, self._steps_per_epoch)
    if self._describe_cost is not None and self._done >= announce:
      self.line(self._describe_cost(self._pace))
      self._describe_cost = None

    epochs_left = self._epochs - self._epoch + 1
    total = self._epochs * self._steps_per_epoch
    steps_left = epochs_left * self._steps_per_epoch - (
      self._before + self._done
    )
    left = self._pace.predict(num_steps=steps_left, num_evaluations=epochs_left)
    loss, value, keep_ratio = (
      float(np.mean(metrics[name][-1]))
      for name in ("loss", self._metric, "keep_ratio")
    )
    name = _SHORT.get(self._metric, self._metric)
    status = (
      f"epoch {self._epoch} loss {loss:.3f} {name} {value:.3f}"
      f" keep {keep_ratio:.3f} {self._pace.told}"
      f" {format_seconds(left)} left"
    )
    if self._bar is not None:
      self._bar.set_description_str(status, refresh=False)
      self._bar.update(num_steps)
    elif time.monotonic() - self._last_line > self._seconds_between_lines:
      self.line(f"step {total - steps_left}/{total} {status}")

  def line(self, text: str) -> None:
    """Prints a line that stays."""
    self._last_line = time.monotonic()
    if self._bar is None:
      self._log(text)
    else:
      self._bar.write(text)

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    if self._bar is not None:
      self._bar.close()
