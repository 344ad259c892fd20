r"""Trains configs over seeds and says how surely they differ.

Usage:
  python -m sparse_regimes compare --configs=wrn_dense,wrn_strategy1 --seeds=5 \
    [--out=runs/compare] [--baseline=wrn_dense] [--jobs=1] [--minutes=0] \
    [--config.section.field=value ...]

A config may have overrides of its own: ``collapse+optimizer.clip_norm=1.0``.
What is finished is not trained again, what was interrupted or killed goes on:
the same command, as often as it takes. Several of them may share a folder.
``--minutes`` ends a piece in time. ``--jobs`` trains runs side by side.

Writes to the folder: ``table.md``, ``table.csv`` (every number), ``runs.csv``
(a row a run), ``strips.png`` and ``compare.html``. Runs that ``--mode=eval``
has swept are drawn over budgets, and have their mean over them in the table.
Exits with 0 when all runs are finished, 4 if some are left, 1 if one failed, 2
for bad input, 130 and 143 on signals.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from sparse_regimes.errors import InputError, one_of
from sparse_regimes.files import write
from sparse_regimes.runs import config as configs
from sparse_regimes.studies import compare_page
from sparse_regimes.studies.arms import Run, make_runs, parse_seeds, split_arms
from sparse_regimes.studies.budgets import means_of, sweeps_of
from sparse_regimes.studies.cli import (
  Parser,
  check_jobs,
  check_minutes,
  csv_text,
  markdown,
  state,
  typed,
)
from sparse_regimes.studies.measures import (
  GAP,
  LAST,
  OVER_BUDGETS,
  Results,
  Values,
  cell,
  common_score,
  measures_of,
  number,
  paired,
  values_of,
)
from sparse_regimes.studies.queue import run_all
from sparse_regimes.studies.statistics import Estimate, estimate, sign_flip_p

NOTE = (
  "Mean over seeds; ± is the standard deviation, brackets are 95 % t-intervals."
  " Differences are paired by seed; p is the two-sided sign-flip test, which"
  " cannot fall below 2^(1-n) for n pairs and is exact up to 16. diverged: runs"
  " that ended early with a loss that is not finite, and count as far as they"
  " came; one that did so in its first epoch has no score. gap: how much better"
  " it is on training examples than on test examples, dense. Of a loss (nats)"
  " less is better. mean over budgets: of the score over keep ratios from 0.02"
  " to 1 in equal factors, of arms of which every run is swept that far. zeros"
  " read: share of a forward pass's multiply-adds whose activation is 0, an"
  " upper bound of what a sparse kernel could skip; a mask alone saves nothing."
)
MORE = "More of each arm is in table.csv, and of each run in runs.csv."


def collect(runs: Sequence[Run]) -> Results:
  """Summaries of the finished runs by arm and seed."""
  results: Results = {run.arm: {} for run in runs}
  for run in runs:
    summary = run.summary()
    if summary is not None:
      results[run.arm][run.seed] = summary
  return results


def table(
  results: Results, baseline: str, over_budgets: Values | None = None
) -> list[dict[str, str]]:
  """A row an arm, cells by column, of all that is known.

  Args:
    results: of the finished runs.
    baseline: an arm.
    over_budgets: of :func:`sparse_regimes.studies.budgets.means_of`.
  """
  rows = []
  measures = measures_of(common_score(results))
  first = next(iter(measures))
  for arm, summaries in results.items():
    diverged = sum(s["diverged"] for s in summaries.values())
    seeds = f"{len(summaries)}" + f", {diverged} diverged" * bool(diverged)
    row = {"arm": arm, "seeds": seeds}
    if summaries:
      for name, measure in measures.items():
        row[name] = cell(name, [*map(measure, summaries.values())])
    if over_budgets and arm in over_budgets:
      row[OVER_BUDGETS] = cell(OVER_BUDGETS, [*over_budgets[arm].values()])
    differences = paired(values_of(results, first), arm, baseline)
    if differences:
      row[f"minus {baseline}"] = cell("difference", differences)
      row["p"] = number(sign_flip_p(differences), 4)
    rows.append(row)
  return rows


def numbers(
  results: Results, baseline: str, over_budgets: Values | None = None
) -> list[list[Any]]:
  """The table as numbers: a row an arm and measure, with its difference.

  What is NaN in an estimate, such as an interval of one seed, is left empty.
  """
  rows: list[list[Any]] = [["arm", "measure", *Estimate._fields, "p"]]
  names = [*measures_of(common_score(results))]

  def add(arm: str, name: str, values: Sequence[float], *p: float) -> None:
    found = [*estimate(values), *p]
    rows.append([arm, name, *("" if math.isnan(v) else v for v in found)])

  def add_difference(arm: str, name: str, values: Values) -> None:
    if differences := paired(values, arm, baseline):
      p = sign_flip_p(differences)
      add(arm, f"{name} minus {baseline}", differences, p)

  for arm, summaries in results.items():
    if summaries:
      for name in names:
        add(arm, name, [*values_of(results, name)[arm].values()])
    if over_budgets and arm in over_budgets:
      add(arm, OVER_BUDGETS, [*over_budgets[arm].values()])
      add_difference(arm, OVER_BUDGETS, over_budgets)
    add_difference(arm, names[0], values_of(results, names[0]))
  return rows


def columns(rows: Sequence[dict[str, str]], baseline: str) -> list[str]:
  """Of the table, at most eight, the answer first."""
  names = [name for row in rows for name in row if name.startswith("dense ")]
  known = {name for row in rows for name in row}
  wanted = ["arm", "seeds", *names[:1], f"minus {baseline}", "p"]
  wanted += [LAST, OVER_BUDGETS, GAP]
  return [name for name in wanted if name in known]


def write_all(
  folder: Path, runs: Sequence[Run], baseline: str, command: str
) -> str:
  """Writes every file; returns the table as text."""
  results = collect(runs)
  score = common_score(results)
  sweeps = sweeps_of(runs, score.name)
  over = means_of(sweeps, {arm: [*found] for arm, found in results.items()})
  rows = table(results, baseline, over)
  names = columns(rows, baseline)
  done = sum(len(summaries) for summaries in results.values())
  how_far = state(done, len(runs))
  out = epath.Path(folder)
  out.mkdir(parents=True, exist_ok=True)
  cells = [[row.get(name, "") for name in names] for row in rows]
  text = markdown(names, cells)
  note = f"{NOTE} {MORE}"
  write(out / "table.md", f"{how_far}\n\n{text}\n{note}\n\n`{command}`\n")
  write(out / "table.csv", csv_text(numbers(results, baseline, over)))
  write(out / "runs.csv", csv_text(run_rows(results, over)))
  if not done:
    for name in ("strips.png", "compare.html"):
      (out / name).unlink(missing_ok=True)
  else:
    write(out / "strips.png", compare_page.strips(results))
    page = compare_page.page(
      compare_page.Study(folder, how_far, command, baseline, results, sweeps),
      over,
      names,
      rows,
      note,
    )
    write(out / "compare.html", page)
  return f"{how_far}\n{text}"


def run_rows(results: Results, over_budgets: Values) -> list[list[Any]]:
  """A header, and a row a run."""
  measures = measures_of(common_score(results))
  header = ["arm", "seed", *measures, "device", "host", "jax"]
  if over_budgets:
    header.append(OVER_BUDGETS)
  return [header] + [
    [
      *(arm, seed, *(measure(s) for measure in measures.values())),
      *(s["device"], s["host"], s["versions"]["jax"]),
      *([over_budgets.get(arm, {}).get(seed, "")] if over_budgets else []),
    ]
    for arm, summaries in results.items()
    for seed, s in sorted(summaries.items())
  ]


def compare(argv: Sequence[str] | None = None) -> int:
  """Runs the command."""
  parser = Parser(__doc__)
  parser.add_argument("--configs", required=True)
  parser.add_argument("--seeds", default="5")
  parser.add_argument("--out", type=Path, default=Path("runs/compare"))
  parser.add_argument("--baseline", default="")
  parser.add_argument("--jobs", type=int, default=1)
  parser.add_argument("--minutes", type=float, default=0.0)
  args, rest = parser.parse_known_args(argv)
  check_jobs(args.jobs)
  check_minutes(args.minutes)
  overrides = configs.parse_overrides(rest)
  if any(override.startswith("seed=") for override in overrides):
    raise InputError("seeds are given by --seeds, not by --config.seed")
  runs = make_runs(
    split_arms(args.configs), parse_seeds(args.seeds), args.out, overrides
  )
  baseline = args.baseline or runs[0].arm
  try:
    one_of("--baseline", baseline, dict.fromkeys(run.arm for run in runs))
  except ValueError as error:
    raise InputError(str(error)) from error
  collect(runs)
  command = typed("compare", argv)
  try:
    finished = run_all(runs, jobs=args.jobs, minutes=args.minutes)
  finally:
    print(write_all(args.out, runs, baseline, command))
    print(f"written     table.md, compare.html and more in {args.out}")
  return 0 if finished else 4
