r"""Trains configs over seeds and says how surely they differ.

Usage:
  python -m sparse_regimes compare --configs=wrn_dense,wrn_strategy1 --seeds=5 \
    [--out=runs/compare] [--baseline=wrn_dense] [--jobs=1] [--minutes=0] \
    [--config.section.field=value ...]

A config may have overrides of its own: ``collapse+optimizer.clip_norm=1.0``.
What is finished is not trained again, what was interrupted or killed goes on:
the same command, as often as it takes. Several of them may share a folder.
``--minutes`` ends a piece in time. ``--jobs`` trains runs side by side.

Writes to the folder: ``table.md``, ``table.csv`` (its numbers), ``runs.csv``
(a row a run), ``strips.png`` and ``compare.html``. Exits with 0 when all runs
are finished, 4 if some are left, 1 if one failed, 2 for bad input, 130 and 143
on signals.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from sparse_regimes.errors import InputError, one_of
from sparse_regimes.files import write
from sparse_regimes.reports import pictures
from sparse_regimes.reports.page import Pictures, Pre, Table, Text, render
from sparse_regimes.reports.pictures import Figure, FigureCanvasAgg, plain
from sparse_regimes.runs import config as configs
from sparse_regimes.studies.arms import Run, make_runs, parse_seeds, split_arms
from sparse_regimes.studies.cli import (
  Parser,
  check_jobs,
  check_minutes,
  csv_text,
  markdown,
  state,
  typed,
)
from sparse_regimes.studies.queue import run_all
from sparse_regimes.studies.scores import Score, fields_of, score_of
from sparse_regimes.studies.statistics import Estimate, estimate, sign_flip_p

Measure = Callable[[Mapping[str, Any]], float]


def measures_of(score: Score) -> dict[str, Measure]:
  """Of a run, by what the table calls it; the first is the question."""
  dense, sparse, best, train = fields_of(score)
  return {
    f"dense {score.name}": lambda s: s[dense],
    "at the last budget": lambda s: s[sparse],
    "best dense": lambda s: s[best],
    "gap": lambda s: score.gap(s[train], s[dense]),
    "collapses": lambda s: len(s["collapses"]),
    "diverged": lambda s: float(s["diverged"]),
    "resets": lambda s: s["resets"],
    "lowest ratio": lambda s: s["lowest_keep_ratio"],
    "zeros read, dense": lambda s: s["skippable_share_dense"],
    "zeros read, at budget": lambda s: s["skippable_share_sparse"],
    f"{score.unit}/s": lambda s: s[f"{score.unit}_per_second"],
    "minutes": lambda s: s["seconds"] / 60,
  }


NOTE = (
  "Mean over seeds; ± is the standard deviation, brackets are 95 % t-intervals."
  " Differences are paired by seed; p is the two-sided sign-flip test, which"
  " cannot fall below 2^(1-n) for n pairs and is exact up to 16. diverged: runs"
  " that ended early with a loss that is not finite, and count as far as they"
  " came; one that did so in its first epoch has no score. gap: how much better"
  " it is on training examples than on test examples, dense. Of a loss (nats)"
  " less is better. zeros read: share of a forward pass's"
  " multiply-adds whose activation is 0, an upper bound of what a sparse kernel"
  " could skip; a mask alone saves nothing."
)

Results = dict[str, dict[int, dict[str, Any]]]


def collect(runs: Sequence[Run]) -> Results:
  """Summaries of the finished runs by arm and seed."""
  results: Results = {run.arm: {} for run in runs}
  for run in runs:
    summary = run.summary()
    if summary is not None:
      results[run.arm][run.seed] = summary
  return results


def common_score(results: Results) -> Score:
  """What all of them are judged by; of one task there is one."""
  for summaries in results.values():
    for summary in summaries.values():
      return score_of(summary)
  return Score()


def table(results: Results, baseline: str) -> list[dict[str, str]]:
  """A row an arm, cells by column."""
  rows = []
  measures = measures_of(common_score(results))
  for arm, summaries in results.items():
    row = {"arm": arm, "seeds": str(len(summaries))}
    if summaries:
      for name, measure in measures.items():
        row[name] = cell(name, [*map(measure, summaries.values())])
    differences = paired_differences(results, arm, baseline)
    if differences:
      row[f"minus {baseline}"] = cell("difference", differences)
      row["p"] = _number(sign_flip_p(differences), 4)
    rows.append(row)
  return rows


def numbers(results: Results, baseline: str) -> list[list[Any]]:
  """The table as numbers: a row an arm and measure, with its difference.

  What is NaN in an estimate, such as an interval of one seed, is left empty.
  """
  rows: list[list[Any]] = [["arm", "measure", *Estimate._fields, "p"]]
  measures = measures_of(common_score(results))

  def add(arm: str, name: str, values: Sequence[float], *p: float) -> None:
    found = [*estimate(values), *p]
    rows.append([arm, name, *("" if math.isnan(v) else v for v in found)])

  for arm, summaries in results.items():
    if summaries:
      for name, measure in measures.items():
        add(arm, name, [*map(measure, summaries.values())])
    differences = paired_differences(results, arm, baseline)
    if differences:
      name = f"{next(iter(measures))} minus {baseline}"
      add(arm, name, differences, sign_flip_p(differences))
  return rows


def paired_differences(
  results: Results, arm: str, baseline: str
) -> list[float]:
  """Of the seeds that both have; none of the baseline itself."""
  measure = next(iter(measures_of(common_score(results)).values()))
  others = results[baseline]
  return [
    measure(summary) - measure(others[seed])
    for seed, summary in sorted(results[arm].items())
    if seed in others and arm != baseline
  ]


def columns(results: Results, baseline: str) -> list[str]:
  """Of the table, the answer first."""
  first, *rest = measures_of(common_score(results))
  return ["arm", "seeds", first, f"minus {baseline}", "p", *rest]


def cell(name: str, values: Sequence[float]) -> str:
  """Of a table: mean and standard deviation; with its interval if primary."""
  value = estimate(values)
  # Of one that diverged at once little is known.
  known = f" (n = {value.n})" if value.n < len(values) else ""
  if name == "difference" or name.startswith("dense "):
    sign = "+" if name == "difference" and value.mean >= 0 else ""
    text = sign + _number(value.mean, 4)
    if value.n > 1:
      text += f" ± {value.sd:.4f} [{value.low:.4f}, {value.high:.4f}]"
    return text + known
  few = {"minutes": 1, "collapses": 1, "diverged": 1, "resets": 1}
  digits = 0 if name.endswith("/s") else few.get(name, 4)
  text = _number(value.mean, digits)
  if value.n > 1:
    text += f" ± {_number(value.sd, digits)}"
  return text + known


def _number(value: float, digits: int) -> str:
  return "" if math.isnan(value) else f"{value:.{digits}f}"


@plain
def strips(results: Results) -> bytes:
  """A dot a run, a bar for the mean; grey lines join the runs of one seed."""
  arms = [arm for arm, summaries in results.items() if summaries]
  figure = Figure(figsize=(9, 1.2 + 0.5 * len(arms)), layout="constrained")
  FigureCanvasAgg(figure)
  score = common_score(results)
  measures = measures_of(score)
  names = (f"dense {score.name}", "at the last budget")
  axes = figure.subplots(1, 2, sharey=True)
  for ax, name in zip(axes, names, strict=True):
    values = {
      arm: {seed: measures[name](s) for seed, s in results[arm].items()}
      for arm in arms
    }
    for seed in sorted(
      {seed for by_seed in values.values() for seed in by_seed}
    ):
      at = [(i, values[arm].get(seed)) for i, arm in enumerate(arms)]
      joined = [(v, i) for i, v in at if v is not None]
      ax.plot(*zip(*joined, strict=True), color="#c4ccd3", lw=0.8, zorder=1)
    for i, arm in enumerate(arms):
      dots = [*values[arm].values()]
      ax.plot(dots, [i] * len(dots), "o", ms=5, color="#1b4965", alpha=0.75)
      mean = estimate(dots).mean
      ax.plot(mean, i, "|", ms=18, mew=2, color="#d1495b")
    ax.set_xlabel(f"test {score.label}, {name.removesuffix(' ' + score.name)}")
    ax.grid(alpha=0.3)
  axes[0].set_yticks(range(len(arms)), arms)
  axes[0].invert_yaxis()
  return pictures.png(figure, 120)


def write_all(
  folder: Path, runs: Sequence[Run], baseline: str, command: str
) -> str:
  """Writes every file; returns the table as text."""
  results = collect(runs)
  rows, names = table(results, baseline), columns(results, baseline)
  measures = measures_of(common_score(results))
  cells = [[row.get(name, "") for name in names] for row in rows]
  done = sum(len(summaries) for summaries in results.values())
  how_far = state(done, len(runs))
  out = epath.Path(folder)
  out.mkdir(parents=True, exist_ok=True)
  text = markdown(names, cells)
  write(out / "table.md", f"{how_far}\n\n{text}\n{NOTE}\n\n`{command}`\n")
  write(out / "table.csv", csv_text(numbers(results, baseline)))
  header = ["arm", "seed", *measures, "device", "host", "jax"]
  lines = [
    [
      *(arm, seed, *(measure(s) for measure in measures.values())),
      *(s["device"], s["host"], s["versions"]["jax"]),
    ]
    for arm, summaries in results.items()
    for seed, s in sorted(summaries.items())
  ]
  write(out / "runs.csv", csv_text([header, *lines]))
  if not done:
    for name in ("strips.png", "compare.html"):
      (out / name).unlink(missing_ok=True)
  else:
    picture = strips(results)
    write(out / "strips.png", picture)
    page = render(
      "Arms compared over seeds",
      how_far,
      {
        "Table": [Table(names, cells), Text(NOTE)],
        "Runs": [
          Pictures(
            [picture], "A dot a run; the bar is the mean, lines join seeds."
          ),
          Table(
            header,
            [
              [f"{v:.4f}" if isinstance(v, float) else str(v) for v in line]
              for line in lines
            ],
          ),
        ],
        "Command": [Pre(command)],
      },
    )
    write(out / "compare.html", page)
  return f"{how_far}\n{text}"


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
