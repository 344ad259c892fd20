"""A run in words: what it is, what it costs, how it goes, what came out."""

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sparse_regimes import __version__
from sparse_regimes.masks.statistics import Arithmetic, skippable_share
from sparse_regimes.runs.journal import (
  Journal,
  Record,
  record_names,
)
from sparse_regimes.runs.pace import (
  Pace,
  format_rate,
  format_seconds,
  typical_pace,
)
from sparse_regimes.tasks import Task, length
from sparse_regimes.training.state import TrainState

SUMMARY_FILE = "summary.json"
ENVIRONMENT_FILE = "environment.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_LONG = 86_400.0
# One in ten thousand activations carries no image through a network.
_DEAD = 1e-4


def describe_setup(
  config: ConfigDict,
  task: Task,
  state: TrainState,
  mesh: Mesh,
  *,
  steps_per_epoch: int,
  is_streamed: bool = False,
) -> list[str]:
  """One line each on devices, data, parameters and steps."""
  device = mesh.devices.flat[0]
  others = jax.device_count() - mesh.size
  processes = jax.process_count()
  train = config.train
  num_parameters = sum(p.size for p in jax.tree.leaves(state.params))
  return [
    f"devices     {mesh.size} x {device.device_kind} ({device.platform})"
    + (f", {others} left idle" if others else "")
    + (f", in {processes} processes" if processes > 1 else ""),
    f"data        {config.data.name}: {task.num_train:,} train and"
    f" {length(task.evaluation_sets['test']):,} test {task.unit}:"
    f" {task.source}" + (", read as they are needed" if is_streamed else ""),
    f"parameters  {num_parameters:,} in {_named(config.model)}",
    f"controller  {_named(config.controller)}",
    f"steps       {steps_per_epoch:,} an epoch of {train.batch_size}"
    f" {task.unit} each, {steps_per_epoch * train.epochs:,} in"
    f" {train.epochs} epochs",
  ]


def _named(section: ConfigDict) -> str:
  """A name, and the arguments that come with it."""
  rest = [f"{field} {v}" for field, v in section.items() if field != "name"]
  return f"{section.name}: {', '.join(rest)}"


def describe_cost(
  pace: Pace, *, epochs: int, steps_per_epoch: int, steps_made: int = 0
) -> str:
  """What is left of the run takes on this machine, and what would fit it."""
  seconds = pace.predict(
    num_steps=epochs * steps_per_epoch - steps_made,
    num_evaluations=epochs - steps_made // steps_per_epoch,
  )
  rest = "what is left of " if steps_made else ""
  text = (
    f"estimate    about {format_seconds(seconds)} for {rest}{epochs} epochs, at"
    f" {pace.told}"
  )
  if seconds > _LONG and jax.default_backend() == "cpu":
    text += (
      "; that is long for a CPU: configs/quickstart.py (about 2 minutes) and"
      " configs/wrn10_cpu.py (about 10 minutes) fit one, this config wants a"
      " GPU or a TPU"
    )
  return text


def describe_epoch(
  measured: Mapping[str, Any],
  journal: Journal,
  epochs: int,
  arithmetic: Arithmetic,
  pace_in: tuple[str, int] = ("images", 1),
) -> str:
  """One line an epoch, or more where there is something to worry about.

  Args:
    measured: of the epoch, by the names of a record and of its details.
    journal: up to its end.
    epochs: of the run.
    arithmetic: of the network.
    pace_in: the unit that the pace is told in, and how many an example has.
  """
  warning = ""
  if journal.skipped:
    warning += f"\nwarning: {journal.skipped} steps skipped so far: not finite"
  broken = [
    name
    for name, value in measured.items()
    if isinstance(value, float) and not isfinite(value)
  ]
  if broken:
    warning += f"\nwarning: not finite after epoch {measured['epoch']}, step"
    warning += f" {measured['step']}: {', '.join(broken)}"
  if journal.collapsed:
    warning += (
      f"\nwarning: collapsed at step {journal.collapses[-1][0]}:"
      f" {journal.metric} has not come back since the last reset;"
      " docs/collapse.md has remedies"
    )
  dead = dead_sites(arithmetic, measured["test_dense_sites"])
  if dead:
    warning += f"\nwarning: no activation is left at {', '.join(dead)}"
  rate = measured["images_per_second"]
  told = "" if rate is None else f"  {format_rate(rate, *pace_in)}"
  return (
    f"epoch {measured['epoch']:>3}/{epochs}"
    f"  loss {measured['train_loss']:.3f}"
    f"  train {measured[f'train_{journal.metric}']:.3f}"
    f"  keep {measured['keep_ratio']:.3f}"
    f"  test at budget {measured[f'test_sparse_{journal.metric}']:.4f}"
    f"  dense {measured[f'test_dense_{journal.metric}']:.4f}"
    f"{_test_loss(measured, journal)}{_others(measured, journal)}"
    f"{told}{warning}"
  )


def _test_loss(measured: Mapping[str, Any], journal: Journal) -> str:
  """Where it is what chooses the best epoch."""
  if not journal.chosen_by.endswith("_loss"):
    return ""
  sparse, dense = (measured[f"test_{b}_loss"] for b in ("sparse", "dense"))
  return f"  loss {sparse:.4f}, {dense:.4f}"


def _others(measured: Mapping[str, Any], journal: Journal) -> str:
  """The metric of other evaluations, dense."""
  end = f"_dense_{journal.metric}"
  return "".join(
    f"  {name.removesuffix(end)} {value:.4f}"
    for name, value in measured.items()
    if name.endswith(end) and not name.startswith(("train_", "test_"))
  )


def dead_sites(arithmetic: Arithmetic, nonzero: Sequence[float]) -> list[str]:
  """Names of the sites at which hardly an activation is nonzero."""
  names = zip(arithmetic[1], nonzero, strict=True)
  return [name for name, share in names if share < _DEAD]


def summarize(
  config: ConfigDict,
  journal: Journal,
  arithmetic: Arithmetic,
  pace_in: tuple[str, int] = ("images", 1),
) -> dict[str, Any]:
  """What a results table needs of a run that has ended.

  Nothing was evaluated of one that diverged in its first epoch: null. The pace
  is that of examples, and that of ``pace_in`` besides if it is another.
  """
  pace = typical_pace(journal.records)
  unit, each = pace_in
  paces = {"images_per_second": pace}
  if each != 1:
    paces[f"{unit.replace(' ', '_')}_per_second"] = (
      None if pace is None else pace * each
    )
  metric = journal.metric
  unknown: Record = dict.fromkeys(record_names(metric))
  last = journal.records[-1] if journal.records else unknown | {"epoch": 0}
  best = journal.best or unknown
  details = journal.details[-1] if journal.details else {}
  sites = {
    budget: details.get(f"test_{budget}_sites")
    for budget in ("sparse", "dense")
  }
  skippable = {
    budget: None if shares is None else skippable_share(arithmetic, shares)
    for budget, shares in sites.items()
  }
  return {
    "epochs": last["epoch"],
    "chosen_by": journal.chosen_by.rpartition("_")[2],
    "steps": last["step"] or journal.step,
    "seed": config.seed,
    "compressions": journal.budget.compressions,
    "resets": journal.budget.resets,
    "lowest_keep_ratio": journal.budget.lowest,
    "final_keep_ratio": last["keep_ratio"],
    f"final_train_{metric}": last[f"train_{metric}"],
    f"final_test_sparse_{metric}": last[f"test_sparse_{metric}"],
    f"final_test_dense_{metric}": last[f"test_dense_{metric}"],
    "final_test_sparse_loss": last["test_sparse_loss"],
    "final_test_dense_loss": last["test_dense_loss"],
    f"best_test_dense_{metric}": best[f"test_dense_{metric}"],
    "best_test_dense_loss": best["test_dense_loss"],
    "best_epoch": best["epoch"],
    # Of training examples as they are evaluated: the gap to the test split.
    f"final_train_sparse_{metric}": details.get(f"train_sparse_{metric}"),
    f"final_train_dense_{metric}": details.get(f"train_dense_{metric}"),
    "final_train_dense_loss": details.get("train_dense_loss"),
    # Other evaluation sets, and averaged parameters.
    **{
      f"final_{name}": last[name]
      for name in last
      if name not in record_names(metric)
    },
    "active_fraction_dense": active_fraction(journal),
    # Upper bounds of what a sparse kernel could save.
    "skippable_share_sparse": skippable["sparse"],
    "skippable_share_dense": skippable["dense"],
    "multiply_adds": arithmetic[0],
    "collapses": journal.collapses,
    "dead_sites": dead_sites(arithmetic, sites["dense"])
    if sites["dense"]
    else [],
    "skipped_steps": journal.skipped,
    # Unknown if no epoch was trained whole, between two evaluations.
    **paces,
    "seconds": journal.seconds,
    **environment(),
  }


def active_fraction(journal: Journal) -> float | None:
  """The share of activations that are not zero without a mask, if known."""
  details = journal.details[-1] if journal.details else {}
  shares = details.get("test_dense_sites")
  return sum(shares) / len(shares) if shares else None


def environment() -> dict[str, Any]:
  """Devices, host and versions."""
  return {
    "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "host": f"{_processors()} of {os.cpu_count()} cores, {platform.machine()}",
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    "sparse_regimes": __version__,
    "commit": _commit(),
  }


def _commit() -> str:
  """Of the checkout this package lies in, and whether it was changed since."""
  package = Path(__file__).parent.parent
  if not (package.parent / ".git").exists():
    return "not from a checkout"
  try:
    found = subprocess.run(
      ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
      cwd=package,
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    )
  except (OSError, subprocess.SubprocessError):
    return "unknown"
  return found.stdout.strip()


def _processors() -> int:
  """As many as this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def describe_summary(summary: dict[str, Any], workdir: epath.Path) -> str:
  """The end of a run, for a person."""
  metric = next(
    name.removeprefix("best_test_dense_")
    for name in summary
    if name.startswith("best_test_dense_")
  )
  *_, told = (name for name in summary if name.endswith("_per_second"))
  pace = summary[told]
  unit = told.removesuffix("_per_second").replace("_", " ")
  pace = "" if pace is None else f", {format_rate(pace, unit)}"
  best_loss = summary.get("best_test_dense_loss")
  loss = ""
  if summary.get("chosen_by") == "loss" and best_loss is not None:
    loss = (
      f"  loss, dense   {summary['final_test_dense_loss']:.4f} at the end,"
      f" {best_loss:.4f} in epoch {summary['best_epoch']}\n"
    )
  return (
    f"\nfinished in {format_seconds(summary['seconds'])}:"
    f" {summary['epochs']} epochs, {summary['steps']:,} steps{pace}\n"
    f"  budget        {summary['compressions']} compressions,"
    f" {summary['resets']} resets, lowest keep ratio"
    f" {summary['lowest_keep_ratio']:.3f}, last"
    f" {summary['final_keep_ratio']:.3f}\n"
    f"  test, dense   {summary[f'final_test_dense_{metric}']:.4f} at the end,"
    f" best {summary[f'best_test_dense_{metric}']:.4f} in epoch"
    f" {summary['best_epoch']}\n"
    f"  test, budget  {summary[f'final_test_sparse_{metric}']:.4f} at the last"
    " keep ratio\n"
    f"{loss}{_collapses(summary)}"
    f"  run folder    {workdir}: {_files(workdir)}\n"
    f"  next          {_python()} -m sparse_regimes.main --mode=eval"
    f" {shlex.quote(f'--workdir={workdir}')}"
    f" --keep_ratios={_telling(summary.get('active_fraction_dense'))}"
  )


def _telling(active: float | None) -> str:
  """Keep ratios to look at: a budget above what is active removes nothing.

  Example:
    >>> _telling(0.5), _telling(0.04)
    ('1.0,0.5,0.2,0.1', '1.0,0.02,0.01,0.005')
  """
  if not active or active > 0.25:  # most of these remove something
    return "1.0,0.5,0.2,0.1"
  return ",".join(["1.0", *(f"{active / k:.2g}" for k in (2, 4, 8))])


def _python() -> str:
  """What a shell here starts this interpreter by."""
  found = shutil.which("python")
  # Not resolved: an environment's is a link to the one that it came from.
  if found and os.path.abspath(found) == os.path.abspath(sys.executable):
    return "python"
  path = os.path.relpath(sys.executable)
  return shlex.quote(sys.executable if path.startswith("..") else path)


def _files(workdir: epath.Path) -> str:
  page = epath.Path(workdir) / "report.html"
  if not page.exists():
    return "metrics.jsonl, checkpoints"
  return f"curves.png, metrics.jsonl, checkpoints\n  its page      {page}"


def _collapses(summary: dict[str, Any]) -> str:
  if not summary["collapses"]:
    return ""
  last_end = summary["collapses"][-1][1]
  end = "it never recovered" if last_end is None else "it recovered"
  return f"  collapses     {len(summary['collapses'])}; from the last {end}\n"
