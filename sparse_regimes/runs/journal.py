"""What a run remembers besides its ``TrainState``, saved with each checkpoint.

A checkpoint holds the whole log so far, so that the files of a run folder can
be written anew from any checkpoint: no line is lost, and none is there twice.
"""

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.runs.cycles import Budget

# Numbers by name; null where a run has no such quantity.
Record = dict[str, Any]

# No log is longer: 100,000 epochs have some 50 MB.
MAX_BYTES = 1 << 28

STEP_METRICS = (
  "loss",
  "accuracy",
  "nonzero",
  "keep_ratio",
  "skipped",
  "collapsed",
)

# The names of ``metrics.jsonl``, in their order.
RECORD_NAMES = (
  "epoch",
  "step",
  "learning_rate",
  "keep_ratio",
  "ema_accuracy",
  "best_ema_accuracy",
  "cooldown",
  "train_loss",
  "train_accuracy",
  "train_nonzero",
  "test_sparse_loss",
  "test_sparse_accuracy",
  "test_sparse_nonzero",
  "test_dense_loss",
  "test_dense_accuracy",
  "test_dense_nonzero",
  "images_per_second",
)

# What else is known of an epoch, for ``trace.json``: the evaluation of some
# training images, and the nonzero fraction at each site.
DETAIL_NAMES = (
  "train_sparse_loss",
  "train_sparse_accuracy",
  "train_dense_loss",
  "train_dense_accuracy",
)
SITE_NAMES = ("test_sparse_sites", "test_dense_sites")


def dense_accuracy(record: Record) -> tuple[float, int]:
  """What the best epoch is best at; of equals the latest is taken."""
  accuracy = record["test_dense_accuracy"]
  return -math.inf if accuracy is None else accuracy, record["epoch"]


@dataclasses.dataclass
class Journal:
  """The log of a run up to some step.

  Attributes:
    step: training steps made.
    records: one a finished epoch.
    epoch_steps: the metrics of the current epoch's steps, lists by name.
    details: one a finished epoch, by ``DETAIL_NAMES`` and ``SITE_NAMES``.
    budget: every keep ratio so far.
    collapses: first and last step of each; the last is None while it goes on.
    skipped: steps whose loss or gradient was not finite.
    seconds: wall clock of all starts of the run up to this step.
  """

  step: int = 0
  records: list[Record] = dataclasses.field(default_factory=list)
  epoch_steps: dict[str, list[float]] = dataclasses.field(
    default_factory=lambda: {name: [] for name in STEP_METRICS}
  )
  details: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  budget: Budget = dataclasses.field(default_factory=Budget)
  collapses: list[list[int | None]] = dataclasses.field(default_factory=list)
  skipped: int = 0
  seconds: float = 0.0

  def add_steps(self, metrics: Mapping[str, np.ndarray]) -> None:
    """Appends steps of the current epoch.

    Args:
      metrics: ``[num_steps]`` each, by the names of ``STEP_METRICS``.
    """
    for name, values in self.epoch_steps.items():
      values.extend(np.asarray(metrics[name], np.float64).tolist())
    for keep_ratio, collapsed in zip(
      metrics["keep_ratio"], metrics["collapsed"], strict=True
    ):
      self.step += 1
      # Of a budget for each site, the mean.
      self.budget.see(self.step, float(np.mean(keep_ratio)))
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
      measured: by ``RECORD_NAMES``, ``DETAIL_NAMES`` and ``SITE_NAMES``.
    """
    self.records.append(finite({n: measured[n] for n in RECORD_NAMES}))
    numbers = finite({n: measured[n] for n in DETAIL_NAMES})
    sites = {n: list(measured[n]) for n in SITE_NAMES}
    self.details.append(numbers | sites)
    self.epoch_steps = {name: [] for name in STEP_METRICS}

  def mean(self, name: str) -> float:
    """The mean of a metric over the epoch's steps that were not skipped."""
    values = np.array(self.epoch_steps[name])
    counted = values[np.array(self.epoch_steps["skipped"]) == 0]
    return float(counted.mean()) if counted.size else math.nan

  @property
  def best(self) -> Record | None:
    """The record of the best epoch, by dense test accuracy."""
    return max(self.records, key=dense_accuracy, default=None)

  def to_json(self) -> dict[str, Any]:
    """Itself for JSON, with a checksum; NaN and infinity are null."""
    fields = dataclasses.asdict(self)
    fields["epoch_steps"] = {
      name: [v if math.isfinite(v) else None for v in values]
      for name, values in self.epoch_steps.items()
    }
    return fields | {"checksum": _checksum(fields)}

  @classmethod
  def from_json(cls, content: Any) -> "Journal":
    """Reads what :meth:`to_json` gave.

    Raises:
      ValueError: if it is anything else.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    if not isinstance(content, dict) or set(content) != names | {"checksum"}:
      raise ValueError("the journal's fields are not those of a journal")
    fields = {name: content[name] for name in names}
    if content["checksum"] != _checksum(fields):
      raise ValueError("the journal's checksum does not match its content")
    _check(fields)
    fields["epoch_steps"] = {
      name: [math.nan if v is None else v for v in values]
      for name, values in fields["epoch_steps"].items()
    }
    fields["budget"] = Budget.from_json(fields["budget"])
    return cls(**fields)


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


def _checksum(fields: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _check(fields: Mapping[str, Any]) -> None:
  """Raises a ``ValueError`` for values that no journal has."""
  steps, records = fields["epoch_steps"], fields["records"]
  well_formed = (
    all(is_count(fields[name]) for name in ("step", "skipped"))
    and _is_number(fields["seconds"])
    and isinstance(steps, dict)
    and set(steps) == set(STEP_METRICS)
    and all(
      isinstance(values, list)
      and all(v is None or _is_number(v) for v in values)
      for values in steps.values()
    )
    and len({len(values) for values in steps.values()}) == 1
    and isinstance(records, list)
    and are_details(fields["details"])
    and len(fields["details"]) == len(records)
    and are_collapses(fields["collapses"])
  )
  if not well_formed:
    raise ValueError("the journal's values are not those of a journal")
  for record in records:
    _check_record(record)


def _check_record(record: Any) -> None:
  if not isinstance(record, dict) or not set(RECORD_NAMES) <= set(record):
    raise ValueError("a record must have the names of metrics.jsonl")
  for name, value in record.items():
    if value is not None and not _is_number(value):
      raise ValueError(f"{name} must be a finite number or null, got {value!r}")
  for name in ("epoch", "step"):
    if type(record[name]) is not int or record[name] < 0:
      raise ValueError(f"{name} must be an integer, got {record[name]!r}")


def are_details(details: Any, *, num_sites: int | None = None) -> bool:
  """Whether it is what :meth:`Journal.end_epoch` collects."""
  return isinstance(details, list) and all(
    isinstance(epoch, dict)
    and set(epoch) == {*DETAIL_NAMES, *SITE_NAMES}
    and all(epoch[n] is None or _is_number(epoch[n]) for n in DETAIL_NAMES)
    and all(isinstance(epoch[n], list) for n in SITE_NAMES)
    and all(num_sites in (None, len(epoch[n])) for n in SITE_NAMES)
    and all(_is_number(v) for n in SITE_NAMES for v in epoch[n])
    for epoch in details
  )


def are_collapses(collapses: Any) -> bool:
  """Whether it is what :attr:`Journal.collapses` has."""
  return (
    isinstance(collapses, list)
    and all(isinstance(c, list) and len(c) == 2 for c in collapses)
    and all(is_count(start) for start, _ in collapses)
    and all(is_count(end) for _, end in collapses[:-1])
    and all(end is None or is_count(end) for _, end in collapses[-1:])
  )


def is_count(value: Any) -> bool:
  """Whether it is an integer from 0 that 64 bits can hold."""
  return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
  """Whether it is a finite number that a float can hold."""
  if type(value) is int:
    return abs(value) < 2**63
  return type(value) is float and math.isfinite(value)
