"""What a run remembers besides its ``TrainState``, saved with each checkpoint.

A checkpoint holds the whole log so far, so that the files of a run folder can
be written anew from any checkpoint: no line is lost, and none is there twice.
"""

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.runs.cycles import Budget

# Numbers by name; null where a run has no such quantity.
Record = dict[str, Any]

# No log is longer: 100,000 epochs have some 50 MB.
MAX_BYTES = 1 << 28


def step_metrics(metric: str = "accuracy") -> tuple[str, ...]:
  """What a journal keeps of a step, for a task's metric."""
  return ("loss", metric, "nonzero", "keep_ratio", "skipped", "collapsed")


_BEFORE = (
  *("epoch", "step", "learning_rate", "keep_ratio", "ema_accuracy"),
  *("best_ema_accuracy", "cooldown"),
)


def record_names(metric: str = "accuracy") -> tuple[str, ...]:
  """The names of ``metrics.jsonl``, in their order.

  After them come those of other evaluations, ``NAME_BUDGET_loss`` and so on.

  Args:
    metric: of the run's task.
  """
  of_step = ("loss", metric, "nonzero")
  return (
    *_BEFORE,
    *(f"train_{name}" for name in of_step),
    *(f"test_sparse_{name}" for name in of_step),
    *(f"test_dense_{name}" for name in of_step),
    "images_per_second",
  )


def detail_names(metric: str = "accuracy") -> tuple[str, ...]:
  """What else is known of an epoch, for ``trace.json``.

  The evaluation of some training examples, and the nonzero fraction at each of
  ``SITE_NAMES``.

  Args:
    metric: of the run's task.
  """
  return tuple(
    f"train_{budget}_{name}"
    for budget in ("sparse", "dense")
    for name in ("loss", metric)
  )


RECORD_NAMES = record_names()
SITE_NAMES = ("test_sparse_sites", "test_dense_sites")
# At least these are in the record of any task.
_IN_EVERY_RECORD = {*_BEFORE, "train_loss", "test_dense_loss"}


def metric_of(record: Mapping[str, Any]) -> str:
  """The metric of the task whose record this is.

  Example:
    >>> from sparse_regimes.runs.journal import metric_of, record_names
    >>> metric_of(dict.fromkeys(record_names("score")))
    'score'
  """
  start = "test_dense_"
  found = [n.removeprefix(start) for n in record if n.startswith(start)]
  others = [n for n in found if n not in ("loss", "nonzero", "sites")]
  return others[0] if others else "loss"


@dataclasses.dataclass
class Journal:
  """The log of a run up to some step.

  Attributes:
    step: training steps made.
    records: one a finished epoch.
    epoch_steps: the metrics of the current epoch's steps, lists by name.
    details: one a finished epoch, by :func:`detail_names` and ``SITE_NAMES``.
    budget: every keep ratio so far.
    collapses: first and last step of each; the last is None while it goes on.
    skipped: steps whose loss or gradient was not finite.
    seconds: wall clock of all starts of the run up to this step.
    metric: of the run's task.
    chosen_by: the number in a record that the best epoch has the best of; of
      a loss less is better.
  """

  step: int = 0
  records: list[Record] = dataclasses.field(default_factory=list)
  epoch_steps: dict[str, list[float]] = dataclasses.field(
    default_factory=lambda: {name: [] for name in step_metrics()}
  )
  details: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  budget: Budget = dataclasses.field(default_factory=Budget)
  collapses: list[list[int | None]] = dataclasses.field(default_factory=list)
  skipped: int = 0
  seconds: float = 0.0
  metric: str = "accuracy"
  chosen_by: str = "test_dense_accuracy"

  @classmethod
  def of_task(cls, metric: str, chosen_by: str) -> "Journal":
    """The journal of a run that begins."""
    steps: dict[str, list[float]] = {name: [] for name in step_metrics(metric)}
    return cls(epoch_steps=steps, metric=metric, chosen_by=chosen_by)

  def add_steps(self, metrics: Mapping[str, np.ndarray]) -> None:
    """Appends steps of the current epoch.

    Args:
      metrics: ``[num_steps]`` each, by the names of :func:`step_metrics`.
    """
    for name, values in self.epoch_steps.items():
      values.extend(np.asarray(metrics[name], np.float64).tolist())
    for keep_ratio, collapsed in zip(
      metrics["keep_ratio"], metrics["collapsed"], strict=True
    ):
      self.step += 1
      # Of a budget for each site, the mean.
      mean = float(np.mean(keep_ratio))
      last = self.budget.last or 0.0
      # Where sites share one, that differs by rounding.
      if np.ndim(keep_ratio) and abs(mean - last) < 1e-5 * last:
        mean = last
      self.budget.see(self.step, mean)
      self._see_collapse(bool(collapsed))
    self.skipped += int(np.sum(metrics["skipped"]))

  def _see_collapse(self, collapsed: bool) -> None:
    if collapsed == self.collapsed:
      return
    if collapsed:
      self.collapses.append([self.step, None])
    else:
      self.collapses[-1][1] = self.step

  @property
  def collapsed(self) -> bool:
    """Whether the network has not come back after the last reset."""
    return bool(self.collapses) and self.collapses[-1][1] is None

  def end_epoch(self, measured: Mapping[str, Any]) -> None:
    """Appends what was measured of the current epoch, and starts the next.

    Args:
      measured: by :func:`record_names`, :func:`detail_names` and
        ``SITE_NAMES``; other numbers become part of the record, too.
    """
    details = detail_names(self.metric)
    others = {
      name: value
      for name, value in measured.items()
      if name not in details and not isinstance(value, (list, tuple))
    }
    names = record_names(self.metric)
    self.records.append(finite({n: measured[n] for n in names} | others))
    numbers = finite({n: measured[n] for n in details})
    sites = {n: list(measured[n]) for n in SITE_NAMES}
    self.details.append(numbers | sites)
    self.epoch_steps = {name: [] for name in self.epoch_steps}

  def mean(self, name: str) -> float:
    """The mean of a metric over the epoch's steps that were not skipped."""
    values = np.array(self.epoch_steps[name])
    counted = values[np.array(self.epoch_steps["skipped"]) == 0]
    return float(counted.mean()) if counted.size else math.nan

  @property
  def best(self) -> Record | None:
    """The record of the best epoch; of equals the latest."""
    return best_of(self.records, self.chosen_by)

  def to_json(self) -> dict[str, Any]:
    """Itself for JSON, with a checksum; NaN and infinity are null."""
    fields = dataclasses.asdict(self)
    fields["epoch_steps"] = {
      name: [v if math.isfinite(v) else None for v in values]
      for name, values in self.epoch_steps.items()
    }
    return fields | {"checksum": checksum_of(fields)}

  @classmethod
  def from_json(cls, content: Any) -> "Journal":
    """Reads what :meth:`to_json` gave.

    Raises:
      ValueError: if it is anything else.
    """
    if not isinstance(content, dict) or "checksum" not in content:
      raise ValueError("the journal's fields are not those of a journal")
    fields = dict(content)
    if fields.pop("checksum") != checksum_of(fields):
      raise ValueError("the journal's checksum does not match its content")
    fields["epoch_steps"] = {
      name: [math.nan if v is None else v for v in values]
      for name, values in fields["epoch_steps"].items()
    }
    fields["budget"] = Budget(**fields["budget"])
    return cls(**fields)


def best_of(records: Sequence[Record], chosen_by: str) -> Record | None:
  """The record that has the best of a number; of a loss less is better."""

  def goodness(record: Record) -> tuple[float, int]:
    value = record[chosen_by]
    if value is None:
      return -math.inf, record["epoch"]
    return -value if chosen_by.endswith("_loss") else value, record["epoch"]

  return max(records, key=goodness, default=None)


def read_records(path: epath.Path) -> list[Record]:
  """Reads the ``metrics.jsonl`` of a run, whoever wrote it.

  Raises:
    InputError: naming the line that is no record, or what else is wrong.
  """
  try:
    if path.stat().length > MAX_BYTES:
      raise InputError(f"{path} must have at most {MAX_BYTES} bytes")
    lines = path.read_bytes().splitlines()
  except OSError as error:
    raise InputError(
      f"{path} could not be read: {error.strerror or error}"
    ) from error
  records = []
  for number, line in enumerate(lines, start=1):
    try:
      record = json.loads(line)
      _check_record(record)
    except (ValueError, RecursionError) as error:
      raise InputError(f"{path}, line {number}: {error}") from error
    if record["epoch"] != number:
      raise InputError(
        f"{path}, line {number} must be of epoch {number}, got"
        f" {record['epoch']}"
      )
    records.append(record)
  return records


def finite(record: Record) -> Record:
  """The record with null for what is not finite: JSON knows no NaN."""
  return {
    name: value if value is None or math.isfinite(value) else None
    for name, value in record.items()
  }


def checksum_of(fields: Mapping[str, Any]) -> int:
  """A checksum of what JSON can write."""
  return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _check_record(record: Any) -> None:
  if not isinstance(record, dict) or not set(record) >= _IN_EVERY_RECORD:
    raise ValueError("a record must have the names of metrics.jsonl")
  for name, value in record.items():
    if value is not None and not _is_number(value):
      raise ValueError(f"{name} must be a finite number or null, got {value!r}")
  for name in ("epoch", "step"):
    if type(record[name]) is not int or record[name] < 0:
      raise ValueError(f"{name} must be an integer, got {record[name]!r}")


def _is_number(value: Any) -> bool:
  """Whether it is a finite number that a float can hold."""
  if type(value) is int:
    return abs(value) < 2**63
  return type(value) is float and math.isfinite(value)
