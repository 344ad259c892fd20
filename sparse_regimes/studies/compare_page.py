"""``compare.html``: the arms of a study on one page."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sparse_regimes.reports import pictures
from sparse_regimes.reports.drawings import (
  Interval,
  Line,
  forest,
  over_ratios,
)
from sparse_regimes.reports.page import (
  Arms,
  Block,
  Fold,
  Grouped,
  Pre,
  Text,
  render,
)
from sparse_regimes.reports.pictures import Figure, FigureCanvasAgg, plain
from sparse_regimes.studies.budgets import Sweeps
from sparse_regimes.studies.measures import (
  LAST,
  OVER_BUDGETS,
  Results,
  Values,
  common_score,
  measures_of,
  number,
  paired,
  values_of,
)
from sparse_regimes.studies.statistics import estimate

# Of the runs, by measure; the others are in runs.csv.
_OF_A_RUN = ("resets", "minutes")


class Study(NamedTuple):
  """What is on the page.

  Attributes:
    folder: of the runs.
    how_far: how many of them are finished.
    command: that made them.
    baseline: the arm that others are compared with.
    results: summaries of the finished ones.
    sweeps: of those that are swept.
  """

  folder: Path
  how_far: str
  command: str
  baseline: str
  results: Results
  sweeps: Sweeps


def page(
  study: Study,
  over_budgets: Values,
  columns: Sequence[str],
  rows: Sequence[Mapping[str, str]],
  note: str,
) -> str:
  """The page, the answer first.

  Args:
    study: with at least one finished run.
    over_budgets: each run's mean over budgets, of arms that have it.
    columns: of the table.
    rows: of it, with more than these.
    note: what its words mean.
  """
  score = common_score(study.results)
  first, *others = measures_of(score)
  rest = [name for name in others if name not in columns]
  half = -(-len(rest) // 2)
  in_full = values_of(study.results, first)
  return render(
    "Arms compared over seeds",
    f"{study.how_far}. Compared with {study.baseline} by {first}.",
    {
      f"Difference to {study.baseline}": [
        *_forest(study, in_full, first),
        *_forest(study, over_budgets, f"{score.name}, {OVER_BUDGETS}"),
      ],
      f"{score.name.capitalize()} over budgets": _over_budgets(study),
      "Table": [
        _arms(columns, rows),
        Fold(
          "More columns",
          [
            _arms(["arm", *rest[:half]], rows),
            _arms(["arm", *rest[half:]], rows),
          ],
        ),
        Fold("What the words mean", [Text(note)]),
        Fold("The command", [Pre(study.command, wrapped=True)]),
      ],
      "Runs": _runs(study),
    },
    wide=True,
  )


def _arms(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Arms:
  return Arms(columns, [[row.get(n, "") for n in columns] for row in rows])


def _forest(study: Study, values: Values, of_what: str) -> list[Block]:
  """Nothing where no arm has a seed in common with the baseline."""
  score = common_score(study.results)
  intervals = []
  num_pairs = set()
  for arm in study.results:
    found = estimate(paired(values, arm, study.baseline))
    if not found.n:
      continue
    num_pairs.add(found.n)
    text = f"{found.mean:+.4f}"
    if found.n > 1:
      text += f" [{found.low:.4f}, {found.high:.4f}]"
    intervals.append(Interval(arm, found.mean, found.low, found.high, text))
  if not intervals:
    return []
  pairs = " or ".join(map(str, sorted(num_pairs)))
  caption = (
    f"On test examples{', in nats' * score.less_is_better}; differences paired"
    f" by seed ({pairs} {'pair' if num_pairs == {1} else 'pairs'} an arm): a"
    " point is their mean, a bar its 95 % t-interval."
  )
  if num_pairs == {1}:
    caption += " One pair has no interval."
  else:
    caption += " A bar that crosses 0 leaves open which is better."
  return [
    forest(
      intervals,
      title=of_what,
      less_is_better=score.less_is_better,
      caption=caption,
    )
  ]


def sweep_command(folder: Path) -> str:
  """A line for a shell that sweeps every run."""
  return (
    f'for run in "{folder}"/*/seed*/; do python -m sparse_regimes eval'
    ' --workdir="$run" --checkpoint=last --keep_ratios=0.02:1:12; done'
  )


def _over_budgets(study: Study) -> list[Block]:
  score = common_score(study.results)
  swept = [s for by_seed in study.sweeps.values() for s in by_seed.values()]
  total = sum(map(len, study.results.values()))
  blocks: list[Block] = []
  lines = [
    line
    for arm, by_seed in study.sweeps.items()
    for line in [_line(arm, [sweep.scores for sweep in by_seed.values()])]
    if line is not None
  ]
  if lines:
    chances = {sweep.chance for sweep in swept}
    chance = chances.pop() if len(chances) == 1 else None
    kinds = sorted({sweep.checkpoint for sweep in swept})
    blocks.append(
      over_ratios(
        lines,
        label=f"test {score.label}",
        chance=chance,
        caption=(
          "Mean over seeds; bands reach from the lowest to the highest seed."
          f" The {' or the '.join(kinds)} checkpoint of {len(swept)} of"
          f" {total} runs."
        )
        + (" Less is better." if score.less_is_better else "")
        + (" Who guesses among the classes is at chance." if chance else ""),
      )
    )
  if len(swept) < total:
    blocks += [
      Text(
        "Sweep every run over budgets, then give the command of this page once"
        " more:"
      ),
      Pre(sweep_command(study.folder), wrapped=True),
    ]
  return blocks


def _line(arm: str, sweeps: Sequence[Mapping[float, float]]) -> Line | None:
  """Over the ratios that all of an arm's sweeps have."""
  shared = set.intersection(*map(set, sweeps)) if sweeps else set()
  ratios = sorted(ratio for ratio in shared if ratio > 0)
  if not ratios:
    return None
  values = [[scores[ratio] for scores in sweeps] for ratio in ratios]
  return Line(
    f"{arm}, {len(sweeps)} seed{'s' * (len(sweeps) > 1)}",
    ratios,
    [statistics.fmean(of_seeds) for of_seeds in values],
    # Of NaN there is no order.
    [math.nan if any(map(math.isnan, v)) else min(v) for v in values],
    [math.nan if any(map(math.isnan, v)) else max(v) for v in values],
  )


def _runs(study: Study) -> list[Block]:
  score = common_score(study.results)
  measures = measures_of(score)
  names = [next(iter(measures)), LAST, *_OF_A_RUN]
  groups: dict[str, list[list[str]]] = {}
  places = set()
  for arm, summaries in study.results.items():
    for seed, summary in sorted(summaries.items()):
      cells = [
        number(measures[name](summary), 1 if name in _OF_A_RUN else 4)
        for name in names
      ]
      cells[names.index("resets")] = f"{summary['resets']}"
      state = " diverged" if summary["diverged"] else ""
      groups.setdefault(arm, []).append([f"{seed}{state}", *cells])
      versions = summary["versions"]
      places.add(
        f"{summary['device']} of {summary['host']}, jax {versions['jax']}"
      )
  return [
    Grouped(["seed", *names], groups),
    Text(f"On {'; '.join(sorted(places))}. More of each is in runs.csv."),
  ]


@plain
def strips(results: Results) -> bytes:
  """A dot a run, a bar for the mean; grey lines join the runs of one seed."""
  arms = [arm for arm, summaries in results.items() if summaries]
  figure = Figure(figsize=(9, 1.2 + 0.5 * len(arms)), layout="constrained")
  FigureCanvasAgg(figure)
  score = common_score(results)
  names = (f"dense {score.name}", LAST)
  axes = figure.subplots(1, 2, sharey=True)
  for ax, name in zip(axes, names, strict=True):
    values = values_of(results, name)
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
