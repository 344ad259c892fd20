"""What budgets buy: the sweeps of a study's runs, and their mean in one."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.runs.tables import SWEEP_FILE, read_sweep
from sparse_regimes.studies.arms import Run

LOWEST, HIGHEST = 0.02, 1.0
# Ratios of a sweep are rounded to six digits.
_NEAR = 1e-5


def mean_over_budgets(
  keep_ratios: Sequence[float],
  scores: Sequence[float],
  *,
  lowest: float = LOWEST,
  highest: float = HIGHEST,
) -> float:
  r"""The mean of a score over keep ratios in equal factors.

  .. math:: M = \frac{1}{\ln b - \ln a} \int_{\ln a}^{\ln b} s(e^u) \, du

  with a the lowest and b the highest ratio, and s linear in
  :math:`u = \ln r` between the measured ratios. Of such lines the trapezoids
  between a, the ratios within and b are the integral itself, however fine a
  grid of ratios is laid over it, so sweeps at other ratios can be compared.
  From 0.02 to 1 each halving of the budget weighs the same.

  Args:
    keep_ratios: ``[n]``, different, in any order; those of 0 are left out.
    scores: ``[n]``, at each of them.
    lowest: a, above 0.
    highest: b.

  Returns:
    M; NaN if a score within is.

  Raises:
    InputError: if the ratios do not reach from ``lowest`` to ``highest``.

  Example:
    >>> ratios, accuracies = [1.0, 0.1, 0.01], [0.5, 0.4, 0.2]
    >>> print(f"{mean_over_budgets(ratios, accuracies, lowest=0.01):.4f}")
    0.3750

  Source: ours.
  """
  ratios = np.asarray(keep_ratios, np.float64)
  values = np.asarray(scores, np.float64)
  if ratios.shape != values.shape or len({*ratios}) < len(ratios):
    raise InputError("scores must be one for each of different keep ratios")
  order = np.argsort(ratios[ratios > 0])
  ratios, values = ratios[ratios > 0][order], values[ratios > 0][order]
  if not spans([*ratios], lowest, highest):
    found = f"{ratios[0]:g} to {ratios[-1]:g}" if len(ratios) else "none"
    raise InputError(
      f"keep ratios must reach from {lowest:g} to {highest:g}, got {found}"
    )
  a, b = math.log(lowest), math.log(highest)
  u = np.log(ratios)
  nodes = np.array([a, *u[(u > a + _NEAR) & (u < b - _NEAR)], b])
  area = np.trapezoid(np.interp(nodes, u, values), nodes)
  return float(area / (b - a))


def spans(
  keep_ratios: Collection[float],
  lowest: float = LOWEST,
  highest: float = HIGHEST,
) -> bool:
  """Whether a sweep reaches from the lowest to the highest ratio.

  Example:
    >>> spans([1.0, 0.1]), spans([1.0, 0.01])
    (False, True)
  """
  return (
    len(keep_ratios) > 0
    and min(keep_ratios) <= lowest * (1 + _NEAR)
    and max(keep_ratios) >= highest * (1 - _NEAR)
  )


class Swept(NamedTuple):
  """The sweep of a run.

  Attributes:
    scores: of the task, by keep ratio.
    checkpoint: ``best`` or ``last``.
    chance: the score of who guesses; None where it is not known.
  """

  scores: dict[float, float]
  checkpoint: str
  chance: float | None


# By arm and seed.
Sweeps = Mapping[str, Mapping[int, Swept]]


def sweeps_of(runs: Sequence[Run], score: str) -> dict[str, dict[int, Swept]]:
  """What ``--mode=eval`` has left in the folders of runs.

  Args:
    runs: of which those without a sweep are left out.
    score: the name of what they are judged by.

  Raises:
    InputError: naming a sweep that cannot be read.
  """
  found: dict[str, dict[int, Swept]] = {run.arm: {} for run in runs}
  for run in runs:
    folder = epath.Path(run.workdir)
    if (folder / SWEEP_FILE).exists():
      content = read_sweep(folder)
      rows = content["rows"]
      # A ratio for each site is another question.
      scores = {
        row["keep_ratio"]: row[score]
        for row in rows
        if score in row and "site_keep_ratio" not in row
      }
      if scores:
        found[run.arm][run.seed] = Swept(
          dict(sorted(scores.items())),
          str(content["checkpoint"]),
          _chance(content, score),
        )
  return found


def means_of(
  sweeps: Sweeps, seeds: Mapping[str, Sequence[int]]
) -> dict[str, dict[int, float]]:
  """Each run's mean over budgets, of arms of which all runs are swept.

  Args:
    sweeps: by arm and seed.
    seeds: of the finished runs, by arm.
  """
  means = {}
  for arm, wanted in seeds.items():
    swept = sweeps.get(arm, {})
    if wanted and all(s in swept and spans([*swept[s].scores]) for s in wanted):
      means[arm] = {
        seed: mean_over_budgets(
          [*swept[seed].scores], [*swept[seed].scores.values()]
        )
        for seed in wanted
      }
  return means


def _chance(content: Mapping[str, Any], score: str) -> float | None:
  """Not in the files of older versions."""
  known = content.get("chance")
  value = known.get(score) if isinstance(known, dict) else None
  return float(value) if isinstance(value, (int, float)) else None
