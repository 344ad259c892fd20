"""Tables and figure of the study of regimes, from its records.

Usage:
  python experiments/regimes_table.py

Reads ``results/regimes/{text,image,...}/*.json``, writes the tables of
``docs/results.md`` between their marks and draws
``results/regimes/budgets.png``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparse_regimes.studies.budgets import mean_over_budgets
from sparse_regimes.studies.statistics import estimate, sign_flip_p

RESULTS = Path(__file__).parent / "results" / "regimes"
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
_MARK = re.compile(r"(<!-- (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# By task: what it is judged by, and the sign of better.
TASKS = {
  "text": ("loss", -1),
  "text_cpu": ("loss", -1),
  "image": ("accuracy", 1),
  "image_augmented": ("accuracy", 1),
}
CONTROL_SEEDS = (100, 101, 102)
DENSE = "constant_1.0"
LABELS = {
  DENSE: "dense",
  "dropout": "dense, dropout",
  "constant": "constant",
  "strategy1": "Strategy 1",
  "strategy1_averaged": "Strategy 1, averaged",
  "gentle": "`gentle`",
  "strategy2": "Strategy 2 (ours)",
  "cosine": "cosine",
  "random_matched": "random, matched",
  "random": "random",
}
Runs = dict[str, dict[int, dict[str, Any]]]


def read(task: str) -> Runs:
  """Records by arm and seed."""
  found: Runs = {}
  for path in sorted((RESULTS / task).glob("*.json")):
    for run in json.loads(path.read_text())["runs"]:
      found.setdefault(run["arm"], {})[run["seed"]] = run
  return found


def last(run: Mapping[str, Any], score: str) -> float:
  """The dense score after the last epoch, on all test examples."""
  return float(run["sweep"][0][score])


def over_budgets(run: Mapping[str, Any], score: str) -> float:
  """The mean over budgets from 0.02 to 1, of equal weight by factor."""
  rows = run["sweep"]
  return mean_over_budgets(
    [row["keep_ratio"] for row in rows], [row[score] for row in rows]
  )


def chosen(runs: Runs, task: str, kind: str) -> str:
  """The best of a kind on the seeds for that, or nothing if there is none."""
  score, sign = TASKS[task]
  arms = [arm for arm in runs if arm.startswith(kind) and arm != DENSE]
  if len(arms) == 1:
    return arms[0]
  return max(
    arms,
    key=lambda arm: (
      sign * np.mean([last(runs[arm][seed], score) for seed in CONTROL_SEEDS])
    ),
    default="",
  )


def difference(
  runs: Mapping[int, Any], others: Mapping[int, Any], value: Any
) -> tuple[Any, float]:
  """Paired by seed: the estimate and the sign-flip test's p."""
  seeds = sorted(runs)
  pairs = [value(runs[seed]) - value(others[seed]) for seed in seeds]
  return estimate(pairs), sign_flip_p(pairs)


def _of(runs: Mapping[int, Any], seeds: Sequence[int]) -> dict[int, Any]:
  return {seed: runs[seed] for seed in seeds if seed in runs}


def _final(runs: Mapping[int, Any]) -> dict[int, Any]:
  return {seed: run for seed, run in runs.items() if seed < CONTROL_SEEDS[0]}


def control_table(task: str) -> str:
  """The positive control, on its own seeds."""
  score, _ = TASKS[task]
  runs = read(task)
  dense = _of(runs[DENSE], CONTROL_SEEDS)
  lines = [
    "| dropout | train | test | minus no dropout |",
    "|---|---|---|---|",
  ]
  rates = sorted(arm for arm in runs if arm.startswith("dropout"))
  for arm in (DENSE, *rates):
    mine = _of(runs[arm], CONTROL_SEEDS)
    train = estimate([run["epochs"][-1]["train"] for run in mine.values()])
    test = estimate([last(run, score) for run in mine.values()])
    told = ""
    if arm != DENSE:
      d, _ = difference(mine, dense, lambda run: last(run, score))
      told = f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
    rate = "0" if arm == DENSE else arm.removeprefix("dropout_")
    lines.append(f"| {rate} | {train.mean:.4f} | {test.mean:.4f} | {told} |")
  return "\n".join(lines)


def arms_of(task: str) -> dict[str, dict[int, Any]]:
  """The arms that are compared, by label."""
  runs = read(task)
  found = {}
  for arm, label in LABELS.items():
    names = [arm]
    if arm == "dropout":
      names = [chosen(runs, task, arm)]
    elif arm == "constant":
      names = sorted(n for n in runs if n.startswith(arm) and n != DENSE)
    for name in names:
      if name in runs and (mine := _final(runs[name])):
        ratio = name.rpartition("_")[2]
        found[label if name == arm else f"{label} {ratio}"] = mine
  return found


def arms_table(task: str) -> str:
  """What each arm came to, dense and over budgets."""
  score, _ = TASKS[task]
  arms = arms_of(task)
  dense = arms[LABELS[DENSE]]
  lines = [
    "| arm | dense | minus dense arm | p | over budgets | minus dense arm |"
    " lowest ratio |",
    "|---|---|---|---|---|---|---|",
  ]
  for label, runs in arms.items():
    at_one = estimate([last(run, score) for run in runs.values()])
    mean = estimate([over_budgets(run, score) for run in runs.values()])
    cells = ["", "", ""]
    if runs is not dense:
      d, p = difference(runs, dense, lambda run: last(run, score))
      b, _ = difference(runs, dense, lambda run: over_budgets(run, score))
      cells = [
        f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]",
        f"{p:.2f}",
        f"{b.mean:+.3f} [{b.low:+.3f}, {b.high:+.3f}]",
      ]
    lowest = np.mean([run["lowest_keep_ratio"] for run in runs.values()])
    lines.append(
      f"| {label} | {at_one.mean:.4f} | {cells[0]} | {cells[1]} |"
      f" {mean.mean:.3f} | {cells[2]} | {lowest:.3f} |"
    )
  return "\n".join(lines)


def budgets_table(
  task: str, ratios: Sequence[float] = (1.0, 0.5, 0.25, 0.125, 0.06, 0.03, 0.02)
) -> str:
  """The score at some ratios, the mean over seeds."""
  score, _ = TASKS[task]
  lines = [
    f"| arm | {' | '.join(f'{r:g}' for r in ratios)} |",
    "|---" * (1 + len(ratios)) + "|",
  ]
  every = dict(arms_of(task))
  calibrated = _final(read(task).get("dense_calibrated", {}))
  if calibrated:
    every["dense, calibrated thresholds"] = calibrated
  for label, runs in every.items():
    at = [
      np.mean(
        [
          row[score]
          for run in runs.values()
          for row in run["sweep"]
          if row["keep_ratio"] == ratio
        ]
      )
      for ratio in ratios
    ]
    lines.append(f"| {label} | {' | '.join(f'{x:.3f}' for x in at)} |")
  return "\n".join(lines)


def cartpole_table() -> str:
  """Returns of CartPole at some keep ratios, over seeds."""
  content = json.loads((RESULTS / "cartpole.json").read_text())
  ratios = content["keep_ratios"]
  lines = [
    f"| arm | {' | '.join(f'{r:g}' for r in ratios)} |"
    " minus dense arm, at 0.25 | lowest ratio |",
    "|---" * (3 + len(ratios)) + "|",
  ]
  dense = content["arms"]["dense"]
  at = ratios.index(0.25)
  for arm, runs in content["arms"].items():
    means = np.mean([run["at_ratios"] for run in runs], axis=0)
    told = ""
    if runs is not dense:
      d = estimate(
        [
          run["at_ratios"][at] - other["at_ratios"][at]
          for run, other in zip(runs, dense, strict=True)
        ]
      )
      told = f"{d.mean:+.0f} [{d.low:+.0f}, {d.high:+.0f}]"
    lowest = np.mean([run["lowest_keep_ratio"] for run in runs])
    lines.append(
      f"| {LABELS.get(arm, arm)} | {' | '.join(f'{x:.0f}' for x in means)} |"
      f" {told} | {lowest:.3f} |"
    )
  return "\n".join(lines)


# Of the arms that are drawn; the best of a kind stands for it.
DRAWN = {
  DENSE: ("dense", "#444444"),
  "dense_calibrated": ("dense, calibrated thresholds", "#999999"),
  "dropout": ("dense, best dropout", "#d98200"),
  "constant": ("best constant ratio", "#2a9d5c"),
  "strategy1_averaged": ("Strategy 1, averaged", "#c1272d"),
  "strategy2": ("Strategy 2 (ours)", "#7b52ab"),
  "random_matched": ("random, Strategy 1's budgets", "#1f77b4"),
  "random": ("random, 0.1 to 1", "#8c564b"),
}
TITLES = {
  "text": "language model, bfloat16",
  "text_cpu": "language model, float32",
  "image": "images, residual MLP",
}
UNITS = {"loss": "nats a character (less is better)", "accuracy": "accuracy"}


def draw(path: Path) -> None:
  """The score over keep ratios, with the range of the seeds."""
  import matplotlib as mpl

  mpl.use("Agg")
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(1, len(TITLES), figsize=(13, 4.3))
  lines = {}
  for axis, task in zip(axes, TITLES, strict=True):
    score, _ = TASKS[task]
    runs = read(task)
    for arm, (label, color) in DRAWN.items():
      kinds = ("dropout", "constant")
      name = chosen(runs, task, arm) if arm in kinds else arm
      rows = [run["sweep"] for run in _final(runs.get(name, {})).values()]
      if not rows:
        continue
      ratios = [row["keep_ratio"] for row in rows[0]]
      values = np.array([[row[score] for row in each] for each in rows])
      style = "--" if arm == "dense_calibrated" else "-"
      (lines[label],) = axis.plot(ratios, values.mean(0), style, color=color)
      axis.fill_between(
        *(ratios, values.min(0), values.max(0)),
        color=color,
        alpha=0.12,
        linewidth=0,
      )
    axis.set_xscale("log")
    ticks = (0.02, 0.05, 0.1, 0.2, 0.5, 1)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("keep ratio at evaluation")
    axis.set_title(TITLES[task])
    axis.set_ylabel(UNITS[score])
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
  figure.legend(
    lines.values(), lines, loc="lower center", ncols=4, frameon=False
  )
  figure.tight_layout(rect=(0, 0.13, 1, 1))
  figure.savefig(path, dpi=110)
  plt.close(figure)


def filled(page: str) -> str:
  """The page with every marked table as its records have it."""
  tables = {
    "control": control_table,
    "arms": arms_table,
    "budgets": budgets_table,
    "cartpole": lambda task: cartpole_table(),
  }

  def table(mark: re.Match[str]) -> str:
    return f"{mark[1]}\n{tables[mark[3]](mark[2])}\n\n{mark[4]}"

  return _MARK.sub(table, page)


def main() -> None:
  PAGE.write_text(filled(PAGE.read_text()))
  draw(RESULTS / "budgets.png")


if __name__ == "__main__":
  main()
