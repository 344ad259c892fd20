"""What a comparison tells of a run and of an arm, and how it writes it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparse_regimes.studies.scores import Score, fields_of, score_of
from sparse_regimes.studies.statistics import estimate

Measure = Callable[[Mapping[str, Any]], float]
# Summaries by arm and seed.
Results = dict[str, dict[int, dict[str, Any]]]
# A number by arm and seed.
Values = Mapping[str, Mapping[int, float]]

LAST, GAP = "at the last budget", "gap"
OVER_BUDGETS = "mean over budgets"
# Of the table; the others are in its CSV, and folded on the page.
MOST_COLUMNS = 8


def measures_of(score: Score) -> dict[str, Measure]:
  """Of a run, by what the table calls it; the first is the question."""
  dense, sparse, best, train = fields_of(score)
  return {
    f"dense {score.name}": lambda s: s[dense],
    LAST: lambda s: s[sparse],
    "best dense": lambda s: s[best],
    GAP: lambda s: score.gap(s[train], s[dense]),
    "collapses": lambda s: len(s["collapses"]),
    "diverged": lambda s: float(s["diverged"]),
    "resets": lambda s: s["resets"],
    "lowest ratio": lambda s: s["lowest_keep_ratio"],
    "zeros read, dense": lambda s: s["skippable_share_dense"],
    "zeros read, at budget": lambda s: s["skippable_share_sparse"],
    f"{score.unit.replace('_', ' ')}/s": lambda s: s[
      f"{score.unit}_per_second"
    ],
    "minutes": lambda s: s["seconds"] / 60,
  }


def common_score(results: Results) -> Score:
  """What all of them are judged by; of one task there is one."""
  for summaries in results.values():
    for summary in summaries.values():
      return score_of(summary)
  return Score()


def values_of(results: Results, name: str) -> dict[str, dict[int, float]]:
  """A measure of every finished run, by arm and seed."""
  measure = measures_of(common_score(results))[name]
  return {
    arm: {seed: measure(s) for seed, s in sorted(summaries.items())}
    for arm, summaries in results.items()
  }


def paired(values: Values, arm: str, baseline: str) -> list[float]:
  """Differences of the seeds that both have; none of the baseline itself.

  Example:
    >>> paired({"a": {0: 0.5, 1: 0.25}, "b": {1: 0.75, 2: 1.0}}, "b", "a")
    [0.5]
  """
  others = values.get(baseline, {})
  return [
    value - others[seed]
    for seed, value in sorted(values.get(arm, {}).items())
    if seed in others and arm != baseline
  ]


def cell(name: str, values: Sequence[float]) -> str:
  """Of a table: mean and standard deviation; with its interval if primary."""
  value = estimate(values)
  # Of one that diverged at once little is known.
  known = f" (n = {value.n})" if value.n < len(values) else ""
  if name == "difference" or name.startswith("dense "):
    sign = "+" if name == "difference" and value.mean >= 0 else ""
    text = sign + number(value.mean, 4)
    if value.n > 1:
      text += f" ± {value.sd:.4f} [{value.low:.4f}, {value.high:.4f}]"
    return text + known
  few = {"minutes": 1, "collapses": 1, "diverged": 1, "resets": 1}
  digits = 0 if name.endswith("/s") else few.get(name, 4)
  text = number(value.mean, digits)
  if value.n > 1:
    text += f" ± {number(value.sd, digits)}"
  return text + known


def number(value: float, digits: int) -> str:
  """Nothing where it is not known."""
  return "" if math.isnan(value) else f"{value:.{digits}f}"
