r"""Sparsity through flat minima: trains arms over seeds, measures every epoch.

Usage:
  python -m sparse_regimes flat_minima --study=modules [--seeds=3] [--jobs=1] \
    [--out=runs/flat_minima] [--full] [--minutes=0] \
    [--num_images=256] [--config.section.field=value ...]

Studies:
  modules  {relu, jsrelu} x {with, without zeroth bias} x {plain, restricted
           layer norm} on the vision transformer: do they make activations
           sparse, at what accuracy?
  longer   the first and the last of them for 100 epochs.
  mlp      the same on the residual MLP.
  shifted  an S whose flat part is at 1.6: do pre-activations gather in it
           though no activation there is zero?
  spectra  of the first linears while training goes on.
  flatness augmented flatness against active fraction over training.
  regimes  Strategy 1 and random budgets: sparsity, flatness, spectra, FGSM.
  finetune the modules added to a trained network, against training on; needs
           --config.train.start_from, a run of cpu_vit, and a folder of its own.

Small configs by default; ``--full`` takes the full-size ones, whose checkpoints
of every epoch, some 65 MB each, are deleted but for the last and the best once
a run is measured. Runs lie below ``--out`` and are shared by studies. What is
finished is neither trained nor measured again: the same command goes on. Writes
``STUDY.md``, ``STUDY.csv`` (a row an arm, seed and epoch) and ``STUDY.png`` to
the folder. Exits as ``compare.py`` does.
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from etils import epath

from sparse_regimes.errors import InputError, one_of
from sparse_regimes.files import write
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.checkpoint import FOLDER
from sparse_regimes.runs.past_run import kept_epochs
from sparse_regimes.runs.tables import MEASURES_FILE, read_measures
from sparse_regimes.studies.arms import Run, make_runs, parse_seeds
from sparse_regimes.studies.cli import (
  Parser,
  check_jobs,
  check_minutes,
  csv_text,
  markdown,
  state,
  typed,
)
from sparse_regimes.studies.flat_minima_tables import (
  MEASURES,
  NOTE,
  STUDIES,
  Measured,
  draw,
  rows_of,
  table,
)
from sparse_regimes.studies.queue import claim_of, run_all

# Every epoch is measured, so every epoch is kept.
_KEEP = "checkpoint.keep=1000"
HESSIAN_SAMPLES = 16
FULL = {
  "cpu_mlp": "mlp_vanilla",
  "cpu_vit": "vit_vanilla",
  "cpu_vit_sparse_finetune": "vit_sparse_finetune",
  "cpu_vit_strategy1": "vit_strategy1",
  "cpu_mlp_shifted": "mlp_shifted",
}


def write_all(
  folder: Path,
  name: str,
  measured: Measured,
  total: int,
  command: str,
) -> str:
  """Writes every file; returns the table and what was written, as text."""
  study = STUDIES[name]
  done = sum(map(len, measured.values()))
  how_far = state(done, total)
  header, cells = table(study, measured)
  text = markdown(header, cells)
  out = epath.Path(folder)
  out.mkdir(parents=True, exist_ok=True)
  write(out / f"{name}.md", f"{how_far}\n\n{text}\n{NOTE}\n\n`{command}`\n")
  names = ["arm", "seed", "epoch", *MEASURES]
  lines = csv_text([names, *rows_of(study, measured)])
  write(out / f"{name}.csv", lines)
  kinds = ".md and .csv"
  if done:
    write(out / f"{name}.png", draw(study, measured))
    kinds = ".md, .csv and .png"
  return f"{how_far}\n{text}\nwritten     {name}{kinds} in {out}"


@dataclasses.dataclass(frozen=True)
class Measurement(Run):
  """To measure a run that is trained, of so many images of either split."""

  num_images: int = 256

  @classmethod
  def of(cls, run: Run, num_images: int) -> Self:
    """Of a run."""
    fields = {f.name: getattr(run, f.name) for f in dataclasses.fields(run)}
    return cls(**fields, num_images=num_images)

  @property
  def command(self) -> list[str]:
    """Of the process that measures it, or goes on with it."""
    return [
      *(sys.executable, "-u", "-m", "sparse_regimes.main", "--mode=measure"),
      *(f"--workdir={self.workdir}", f"--num_images={self.num_images}"),
      f"--hessian_samples={HESSIAN_SAMPLES}",
    ]

  def finished(self) -> bool:
    """Whether all is measured that the run has."""
    return self.epochs() is not None

  def epochs_done(self) -> int:
    """As many as are measured."""
    return sum(row["epoch"] > 0 for row in self._measured())

  def epochs(self) -> list[dict[str, Any]] | None:
    """The epochs' measures; None unless they are there to the last."""
    summary, rows = self.summary(), self._measured()
    whole = summary and rows and rows[-1]["epoch"] == summary["epochs"]
    return rows if whole else None

  def thin(self) -> None:
    """Deletes a finished run's checkpoints but the last and the best."""
    workdir, summary = epath.Path(self.workdir), self.summary()
    assert summary is not None
    claim = claim_of(self.workdir)
    if claim is None:
      return  # another process does
    with claim:
      for epoch, number in kept_epochs(workdir).items():
        if epoch not in (summary["epochs"], summary["best_epoch"]):
          (workdir / FOLDER / str(number)).rmtree()

  def _measured(self) -> list[dict[str, Any]]:
    workdir = epath.Path(self.workdir)
    if not (workdir / MEASURES_FILE).exists():
      return []
    content = read_measures(workdir)
    # Measured otherwise by hand, or with overrides: another network.
    same = (
      content["num_images"] == self.num_images
      and content.get("hessian_samples") == HESSIAN_SAMPLES
      and not content.get("config")
    )
    return content["epochs"] if same else []


def train_and_measure(
  runs: Sequence[Run],
  arguments: argparse.Namespace,
  deadline: float,
) -> list[str]:
  """Does what there is time for; returns what failed."""
  failures = []

  def run_them(some: Sequence[Run]) -> None:
    minutes = (deadline - time.monotonic()) / 60
    if minutes <= 0:
      return
    try:
      run_all(
        some,
        jobs=arguments.jobs,
        minutes=0.0 if math.isinf(minutes) else minutes,
      )
    except RuntimeError as error:
      failures.append(str(error))

  # Full-size runs are measured, and thinned, before the next ones fill a disk.
  size = arguments.jobs if arguments.full else len(runs)
  for first in range(0, len(runs), size):
    some = runs[first : first + size]
    run_them(some)
    measurements = [
      Measurement.of(run, arguments.num_images)
      for run in some
      if (run.summary() or {}).get("epochs")
    ]
    if measurements and time.monotonic() < deadline:
      print(f"measure     {len(measurements)} trained runs", flush=True)
    run_them(measurements)
    for measurement in measurements if arguments.full else ():
      if measurement.finished():
        measurement.thin()
  return failures


def flat_minima(argv: Sequence[str] | None = None) -> int:
  """Runs the command."""
  parser = Parser(__doc__)
  parser.add_argument("--study", required=True)
  parser.add_argument("--seeds", default="3")
  parser.add_argument("--out", type=Path, default=Path("runs/flat_minima"))
  parser.add_argument("--jobs", type=int, default=1)
  parser.add_argument("--minutes", type=float, default=0.0)
  parser.add_argument("--num_images", type=int, default=256)
  parser.add_argument("--full", action="store_true")
  args, rest = parser.parse_known_args(argv)
  try:
    one_of("--study", args.study, STUDIES)
  except ValueError as error:
    raise InputError(str(error)) from error
  check_jobs(args.jobs)
  if args.num_images < 1:
    raise InputError(f"--num_images must be at least 1, got {args.num_images}")
  check_minutes(args.minutes)
  overrides = [*configs.parse_overrides(rest), _KEEP]
  study, seeds = STUDIES[args.study], parse_seeds(args.seeds)
  arms = [_sized(spec, full=args.full) for spec in study.arms.values()]
  deadline = time.monotonic() + (args.minutes * 60 or math.inf)
  runs = make_runs(arms, seeds, args.out, overrides)
  # They come seed by seed, the arms of each in order.
  by_label = {label: runs[i :: len(arms)] for i, label in enumerate(study.arms)}
  command = typed("flat_minima", argv)
  try:
    failures = train_and_measure(runs, args, deadline)
  finally:
    # Of a run that diverged in its first epoch there is nothing to measure.
    ended = [run for run in runs if (run.summary() or {}).get("epochs") == 0]
    measured = {
      label: {
        run.seed: epochs
        for run in of_arm
        if (epochs := Measurement.of(run, args.num_images).epochs())
      }
      for label, of_arm in by_label.items()
    }
    total = len(runs) - len(ended)
    for run in ended:
      print(f"diverged    {run.arm} seed {run.seed} in its first epoch")
    print(write_all(args.out, args.study, measured, total, command))
  if failures:
    raise RuntimeError("; ".join(failures))
  return 0 if sum(map(len, measured.values())) == total else 4


def _sized(spec: str, *, full: bool) -> str:
  config, plus, own = spec.partition("+")
  return (FULL[config] if full else config) + plus + own
