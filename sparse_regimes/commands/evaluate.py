"""``--mode=eval``: the checkpoints of runs at many budgets."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from sparse_regimes.commands.calibrate import calibrated
from sparse_regimes.errors import InputError, in_range
from sparse_regimes.files import write
from sparse_regimes.masks.sites import check_sites
from sparse_regimes.runs import factory
from sparse_regimes.runs.evaluate import Batches, evaluate, make_batches
from sparse_regimes.runs.mesh import make_mesh
from sparse_regimes.runs.pace import format_seconds
from sparse_regimes.runs.past_run import PastRun, load_config, load_run
from sparse_regimes.runs.tables import told_of, write_sweep
from sparse_regimes.tasks import Task, length, rate_of
from sparse_regimes.training.averaging import averaged

# Seconds from which a person wants to know how many are left.
_LONG = 10.0
# Beside the task's metric.
_PRINTED = ("loss", "nonzero", "calibration_error", "bits_per_byte")


def sweep_runs(
  workdirs: Sequence[epath.Path],
  overrides: Sequence[str],
  keep_ratios: Sequence[float | tuple[float, ...]],
  which: str,
  log: Callable[[str], None] = print,
  *,
  calibration: epath.Path | None = None,
) -> None:
  """Evaluates runs at the same budgets, each in one compiled program.

  Every run's folder gets ``sweep.json`` and ``sweep.csv``, the first one's also
  ``sweep.png`` with all of them.

  Args:
    workdirs: of runs on the same data.
    overrides: of their configs.
    keep_ratios: each in ``[0, 1]``, or one for each site.
    which: ``best`` or ``last``.
    log: takes a line at a time.
    calibration: a file of ``calibrate``, of the run: its thresholds take the
      place of the masks.

  Raises:
    InputError: if one is no run, has no such checkpoint, or was trained on
      other data than the first; for thresholds of other sites.
  """
  loaded = [
    load_config(workdir, which, overrides, "--against" if i else "--workdir")
    for i, workdir in enumerate(workdirs)
  ]
  _check_same_data(workdirs, loaded)
  sweeps = []
  for workdir, config in zip(workdirs, loaded, strict=True):
    run = load_run(workdir, config, which, log)
    if calibration is not None:
      calibrated(run, calibration)
    sweeps.append(_sweep_run(workdir, run, keep_ratios, which, log))
  # Drawing is slow to import, and training may do without.
  from sparse_regimes.reports import pictures, sweep_figures
  from sparse_regimes.reports.run_page import write_report
  from sparse_regimes.reports.words import names_of

  figure = sweep_figures.budget_sweep(
    {
      name: content["rows"]
      for name, content in zip(names_of(workdirs), sweeps, strict=True)
    },
    **sweep_figures.known_of(sweeps[0]),
  )
  write(workdirs[0] / "sweep.png", pictures.png(figure))
  log(f"written     sweep.json, sweep.csv, sweep.png in {workdirs[0]}")
  for workdir in workdirs:
    try:
      log(f"written     {write_report(workdir)}")
    except InputError as error:
      # A run in its first epoch has a checkpoint, but no log yet.
      log(f"no page of {workdir}: {error}")


def parse_keep_ratios(text: str) -> list[float | tuple[float, ...]]:
  """Reads ``1.0,0.5,0.2``, or ``0.01:1:3``: three ratios in equal factors.

  A ratio may be one for each site: ``1/0.5/0.2``.

  Example:
    >>> parse_keep_ratios("1,0.5/0.2"), parse_keep_ratios("0.01:1:3")
    ([1.0, (0.5, 0.2)], [0.01, 0.1, 1.0])
  """
  try:
    if ":" in text:
      lowest, highest, count = text.split(":")
      first = in_range("--keep_ratios", float(lowest), 0, 1)
      last = in_range("--keep_ratios", float(highest), 0, 1)
      number = int(count)
      if not 0 < first < last or number not in range(2, 1001):
        raise ValueError
      return [
        round(first * (last / first) ** (i / (number - 1)), 6)
        for i in range(number)
      ]
    parts = [
      tuple(
        in_range("--keep_ratios", float(ratio), 0, 1)
        for ratio in part.split("/")
      )
      for part in text.split(",")
    ]
    return [part if len(part) > 1 else part[0] for part in parts]
  except ValueError as error:
    raise InputError(
      "--keep_ratios must be numbers in [0, 1] separated by commas, or"
      f" LOWEST:HIGHEST:COUNT, got {text!r}"
    ) from error


def _check_same_data(
  workdirs: Sequence[epath.Path], loaded: Sequence[ConfigDict]
) -> None:
  for workdir, config in zip(workdirs, loaded, strict=True):
    first, this = (
      {f"data.{n}": v for n, v in c.data.items() if n != "dir"}
      | {f"task.{n}": c.task.get(n) for n in ("name", "level", "context")}
      | {"train.epochs": c.train.epochs}
      for c in (loaded[0], config)
    )
    for field, value in this.items():
      if value != first[field]:
        raise InputError(
          f"--against must be runs of the same data and epochs, got {field}"
          f" {first[field]!r} in {workdirs[0]} and {value!r} in {workdir}"
        )


def _sweep_run(
  workdir: epath.Path,
  run: PastRun,
  keep_ratios: Sequence[float | tuple[float, ...]],
  which: str,
  log: Callable[[str], None],
) -> dict[str, Any]:
  config = run.config
  task, journal, state = run.task, run.journal, run.state
  if config.eval.parameters == "ema":
    try:
      state = averaged(state)
    except ValueError as error:
      raise InputError(f"eval.parameters ema: {error} in {workdir}") from error
  model = run.parts.model
  _, site_multiply_adds = factory.multiply_adds(model, task.inputs)
  for ratio in keep_ratios:
    try:
      check_sites(ratio, len(site_multiply_adds))
    except ValueError as error:
      raise InputError(f"--keep_ratios: {error}") from error
  epoch = len(journal.records)
  mesh = make_mesh(config.eval.batch_size, num_devices=1)
  sets = {
    name: make_batches(examples, config.eval.batch_size, mesh)
    for name, examples in task.evaluation_sets.items()
    if name != "train"
  }
  num_examples = length(task.evaluation_sets["test"])
  log(
    f"{workdir}, {which} checkpoint (epoch {epoch}),"
    f" {num_examples:,} test {task.unit} of {config.data.name}"
  )
  started = time.monotonic()
  num_rows = len(keep_ratios) * len(sets)
  num_done = 0

  def log_row(row: dict) -> None:
    nonlocal num_done
    num_done += 1
    left = (time.monotonic() - started) / num_done
    left *= num_rows - num_done
    told = told_of(row)
    names = [task.metric, *(name for name in _PRINTED if name in told)]
    widths = [max(len(name), 6) for name in names]
    columns = [*zip(names, widths, strict=True)]
    if num_done == 1:
      heads = [name.replace("_", " ").rjust(width) for name, width in columns]
      log("  ".join(["keep ratio", *heads]))
    values = [f"{row[name]:>{width}.4f}" for name, width in columns]
    log("  ".join([f"{row['keep_ratio']:>10.4g}", *values]))
    if left > _LONG:
      log(f"{'':>10}  about {format_seconds(left)} left")

  sweep = getattr(task, "sweep", None) or functools.partial(_plain_sweep, task)
  rows = sweep(model, state, sets.pop("test"), keep_ratios, log_row)
  others = {}
  for name, batches in sets.items():
    log(f"{name}, {length(task.evaluation_sets[name]):,} {task.unit}")
    others[name] = sweep(model, state, batches, keep_ratios, log_row)
  content = {
    "workdir": str(workdir),
    "checkpoint": which,
    "epoch": epoch,
    "step": journal.step,
    "data": config.data.name,
    "parameters": config.eval.parameters,
    "num_examples": num_examples,
    "num_scored": _num_scored(task, config, num_examples),
    "chance": _chance(task),
    "sites": [*site_multiply_adds],
    "rows": rows,
  }
  write_sweep(workdir, content, others)
  return content


def _num_scored(task: Task, config: ConfigDict, num_examples: int) -> int:
  """What an accuracy is counted on: of a text, its tokens."""
  counted = task.metric == "accuracy"
  _, each = rate_of(task, config)
  return num_examples * each if counted else num_examples


def _chance(task: Task) -> dict[str, float]:
  """What who guesses among the classes has, by the metric's name."""
  classes = task.arguments.get("num_classes", 0)
  if task.metric != "accuracy" or not classes:
    return {}
  return {task.metric: 1 / classes}


def _plain_sweep(
  task: Task,
  model: Any,
  state: Any,
  batches: Batches,
  keep_ratios: Sequence[float | tuple[float, ...]],
  on_ratio: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
  """What a task's evaluation says at each budget."""
  eval_step = task.eval_step(model)
  rows = []
  for ratio in keep_ratios:
    measured = evaluate(
      eval_step, state, batches, np.asarray(ratio, np.float32)
    )
    by_site = {"site_nonzero": measured.pop("sites")}
    if isinstance(ratio, tuple):
      by_site["site_keep_ratio"] = [*ratio]
    mean = statistics.fmean(ratio) if isinstance(ratio, tuple) else ratio
    rows.append({"keep_ratio": mean, **measured, **by_site})
    on_ratio(rows[-1])
  return rows
