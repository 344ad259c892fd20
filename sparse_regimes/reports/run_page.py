"""``report.html``: one run on one page, from the files in its folder."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from sparse_regimes.errors import InputError
from sparse_regimes.files import read_object, write
from sparse_regimes.masks.statistics import skippable_share
from sparse_regimes.reports import figures
from sparse_regimes.reports.measured import measures_blocks, sweep_blocks
from sparse_regimes.reports.page import (
  Block,
  Pre,
  Table,
  Text,
  render,
)
from sparse_regimes.reports.words import (
  difference,
  percent,
  pictures,
  share,
)
from sparse_regimes.runs.config import flatten
from sparse_regimes.runs.journal import (
  Record,
  best_of,
  metric_of,
  read_records,
)
from sparse_regimes.runs.makers import task_class
from sparse_regimes.runs.pace import (
  format_rate,
  format_seconds,
  typical_pace,
)
from sparse_regimes.runs.summary import (
  ENVIRONMENT_FILE,
  SUMMARY_FILE,
  dead_sites,
)
from sparse_regimes.runs.trace import Trace, read_trace
from sparse_regimes.runs.workdir import CONFIG_FILE, given_config
from sparse_regimes.runs.writers import METRICS_FILE
from sparse_regimes.tasks import rate_of

REPORT_FILE = "report.html"
# A random control has a cycle every other step.
_MOST_CYCLES = 500
_MAX_JSON_BYTES = 1 << 24


def write_report(
  workdir: epath.Path, *, seconds: float | None = None
) -> epath.Path:
  """Writes the page of a run that is finished, running or broken off.

  Args:
    workdir: its folder.
    seconds: of the whole run; those of its summary by default.

  Returns:
    The page's path.

  Raises:
    InputError: if the folder holds no run with a finished epoch, or one of its
      files cannot be read.
  """
  if not (workdir / CONFIG_FILE).exists():
    raise InputError(f"--workdir must hold a run, got {workdir}")
  given = given_config(workdir)
  config = flatten(given)
  records = read_records(workdir / METRICS_FILE)
  diverged = ""
  metric = metric_of(records[0]) if records else ""
  needed = ("keep_ratio", f"test_dense_{metric}", f"test_sparse_{metric}")
  if records and records[-1][f"test_dense_{metric}"] is None:
    diverged = f", diverged in epoch {records[-1]['epoch']}"
  # Of an epoch that a loss which is not finite broke off little is known.
  records = [r for r in records if all(r[n] is not None for n in needed)]
  if not records or records[-1]["step"] < 1:
    raise InputError(
      f"--workdir must hold a run with a finished epoch, got {workdir}"
    )
  trace = read_trace(workdir)
  # The trace of a running run is written less often.
  records = records[: len(trace.epochs)]
  sections: dict[str, list[Block]] = {
    "Result": _result(
      given,
      records,
      trace,
      seconds or _seconds(workdir, records[-1]["step"]),
    ),
    "Curves": [
      pictures(
        [
          figures.curves(records, trace, [t])
          for t in figures.curve_panels(metric)
        ],
        f"{_resets(trace)} Shaded: collapsed.",
      )
    ],
    "Generalisation gap": [
      pictures(
        [
          figures.both_splits(records, trace),
          figures.generalisation_gap(records, trace),
        ],
        "Some training examples are evaluated as the test examples are.",
      )
    ],
    "Cycles of the budget": _cycles(records, trace),
    "Collapses": _collapses(records, trace),
    "Sites": [
      pictures(
        [figures.site_heat_map(trace, title) for title in figures.SITES],
        "Share of activations that are not zero, from input (top) to output.",
      )
    ],
    "Budget sweep": sweep_blocks(workdir),
    "Sparsity, flatness, spectra": measures_blocks(workdir),
    "Config": [
      Table(("field", "value"), [(k, f"{v}") for k, v in config.items()])
    ],
    "Environment": _environment(workdir),
  }
  if metric == "return":
    # No episode is one that was learned from.
    del sections["Generalisation gap"]
  if not _can_be_measured(config["task.name"]):
    del sections["Sparsity, flatness, spectra"]
  path = workdir / REPORT_FILE
  name = workdir.absolute().name
  subtitle = (
    f"{config['model.name']}, {config['controller.name']},"
    f" {config['data.name']}, seed {config['seed']}:"
    f" epoch {records[-1]['epoch']} of {config['train.epochs']}{diverged}"
  )
  write(path, render(name, subtitle, sections))
  return path


def _result(
  config: ConfigDict,
  records: Sequence[Record],
  trace: Trace,
  seconds: float | None,
) -> list[Block]:
  last = records[-1]
  details = trace.epochs[-1]
  metric = metric_of(last)
  best = best_of(records, trace.chosen_by) or last
  pace = typical_pace(records)
  unit, pace_in = _units(config)
  examples = last["step"] / last["epoch"] * config.train.batch_size
  in_steps = sum(
    examples / max(r["images_per_second"], 1e-3)
    for r in records
    if r["images_per_second"]
  )
  of_training = details[f"train_dense_{metric}"]
  rows = [
    (f"test {metric}, dense", share(last[f"test_dense_{metric}"])),
    (
      "its best",
      f"{share(best[f'test_dense_{metric}'])} (epoch {best['epoch']})"
      f"{_chosen_by(config, trace, unit)}",
    ),
    (
      f"test {metric} at keep ratio {last['keep_ratio']:.3g}",
      share(last[f"test_sparse_{metric}"]),
    ),
    *_losses(last, metric),
    *_other_evaluations(last, metric),
    *_gap(last, metric, of_training),
    (
      "training pace",
      "unknown" if pace is None else format_rate(pace, *pace_in),
    ),
    ("time spent in training steps", format_seconds(in_steps)),
    *([("total time", format_seconds(seconds))] if seconds else []),
    (
      "multiply-adds of a forward pass",
      f"{trace.multiply_adds:,} for one input",
    ),
    *(
      (
        f"of these, read a zero ({name})",
        percent(skippable_share(trace.arithmetic, details[field])),
      )
      for name, field in (
        ("dense", "test_dense_sites"),
        ("at the budget", "test_sparse_sites"),
      )
    ),
  ]
  return [
    Table((), rows),
    Text(
      "A mask alone saves no arithmetic. The share that reads a zero is what a"
      " kernel that skips zeros could save at most."
    ),
  ]


def _losses(last: Mapping[str, Any], metric: str) -> list[tuple[str, str]]:
  """The row of test losses; a return is its own, with a minus."""
  if metric == "return":
    return []
  losses = f"{last['test_dense_loss']:.4f}, {last['test_sparse_loss']:.4f}"
  unit = " nats" if metric == "accuracy" else ""
  return [("test loss, dense and at that keep ratio", losses + unit)]


def _gap(
  last: Mapping[str, Any], metric: str, of_training: float | None
) -> list[tuple[str, str]]:
  """What training examples have more; other episodes are none of training."""
  if metric == "return":
    return []
  gap = difference(of_training, last[f"test_dense_{metric}"])
  return [
    (f"training {metric}, dense", share(of_training)),
    ("gap (train minus test, dense)", share(gap)),
  ]


def _units(config: ConfigDict) -> tuple[str, tuple[str, int]]:
  """What a task's examples are called, and in what their pace is told."""
  try:
    task = task_class(config.task.name)
  except InputError:
    # A class of one's own, whose file has gone.
    return "examples", ("examples", 1)
  return task.unit, rate_of(task, config)


def _can_be_measured(task: str) -> bool:
  """Whether ``--mode=measure`` takes a run of this task."""
  try:
    return hasattr(task_class(task), "measure")
  except InputError:
    return False


def _chosen_by(config: ConfigDict, trace: Trace, unit: str) -> str:
  """A remark on what chose the best epoch."""
  by = "loss of the " if trace.chosen_by.endswith("_loss") else ""
  if trace.chosen_by.startswith("validation_"):
    return f", chosen by the {by}{unit} that are held out for that"
  by_test = config.data.evaluate_on == "test"
  return f", chosen by the {by}test {unit} themselves" if by_test else ""


def _other_evaluations(record: Record, metric: str) -> list[tuple[str, str]]:
  """Of other sets, and of averaged parameters."""
  end = f"_dense_{metric}"
  names = [
    name.removesuffix(end)
    for name in record
    if name.endswith(end) and not name.startswith("test_")
  ]
  return [
    (
      "averaged parameters" if name == "ema" else f"{name} set",
      f"{share(record[f'{name}{end}'])} dense,"
      f" {share(record[f'{name}_sparse_{metric}'])} at the budget",
    )
    for name in names
  ]


def _resets(trace: Trace) -> str:
  if trace.budget.resets <= figures.MOST_MARKS:
    return "Dotted: resets."
  return f"{trace.budget.resets:,} resets are too many to mark."


def _seconds(workdir: epath.Path, step: int) -> float | None:
  """Of the whole run; None before its end."""
  path = workdir / SUMMARY_FILE
  content = read_object(path, most=_MAX_JSON_BYTES) if path.exists() else {}
  seconds = content.get("seconds") if content.get("steps") == step else None
  known = isinstance(seconds, (int, float)) and 0 < seconds < math.inf
  return seconds if known else None


def _cycles(records: Sequence[Record], trace: Trace) -> list[Block]:
  cycles = trace.budget.cycles(trace.steps)
  per_epoch = records[-1]["step"] / records[-1]["epoch"]
  if len(trace.budget.keep_ratios) < 2:
    return [Text(f"The budget stayed at {trace.budget.last}.")]
  blocks: list[Block] = [
    Text(
      f"{trace.budget.compressions:,} compressions and"
      f" {trace.budget.resets:,} resets; lowest keep ratio"
      f" {trace.budget.lowest:.4g}."
    ),
    Table(
      ("cycle", "steps", "epochs", "length", "compressions", "lowest ratio"),
      [
        (
          f"{i}",
          f"{c.start:,} to {c.end:,}",
          f"{(c.start - 1) / per_epoch:.1f} to {c.end / per_epoch:.1f}",
          f"{c.end - c.start + 1:,}",
          f"{c.compressions}",
          f"{c.lowest:.4g}",
        )
        for i, c in enumerate(cycles[:_MOST_CYCLES], start=1)
      ],
    ),
  ]
  if len(cycles) > _MOST_CYCLES:
    left = len(cycles) - _MOST_CYCLES
    blocks.append(Text(f"And {left:,} more, in trace.json."))
  return blocks


def _collapses(records: Sequence[Record], trace: Trace) -> list[Block]:
  dead = dead_sites(trace.arithmetic, trace.epochs[-1]["test_dense_sites"])
  blocks: list[Block] = []
  shown = trace.collapses[:_MOST_CYCLES]
  if trace.collapses:
    per_epoch = records[-1]["step"] / records[-1]["epoch"]
    blocks.append(
      Text(
        "After a reset the signal did not come back within tolerance in time."
      )
    )
    blocks.append(
      Table(
        ("from step", "epoch", "until"),
        [
          (
            f"{start:,}",
            f"{(start or 0) / per_epoch:.1f}",
            "the end" if end is None else f"step {end:,}",
          )
          for start, end in shown
        ],
      )
    )
  if len(trace.collapses) > len(shown):
    left = len(trace.collapses) - len(shown)
    blocks.append(Text(f"And {left:,} more, in trace.json."))
  if dead:
    blocks.append(Text(f"No activation is left at {', '.join(dead)}."))
  return blocks or [Text("None.")]


def _environment(workdir: epath.Path) -> list[Block]:
  path = workdir / ENVIRONMENT_FILE
  if not path.exists():
    return [Text("Not recorded.")]
  content = dict(read_object(path, most=_MAX_JSON_BYTES))
  command = content.pop("command", "")
  return [
    Pre(str(command)),
    Table((), [(k, f"{v}") for k, v in flatten(content).items()]),
  ]
