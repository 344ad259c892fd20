"""Tables and figures of the study of regimes, from its records.

Its records are ``results/regimes/{text,image,...}/*.json``; ``tables.py`` puts
the tables on their page.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import language_table
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from sparse_regimes.studies.budgets import mean_over_budgets
from sparse_regimes.studies.statistics import estimate, sign_flip_p

RESULTS = Path(__file__).parent / "results" / "regimes"
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


def at_best(run: Mapping[str, Any], score: str) -> float:
  """The dense score after the epoch that is best at it on the test set."""
  best = min if score == "loss" else max
  return float(best(epoch["test"] for epoch in run["epochs"]))


def difference(
  runs: Mapping[int, Any], others: Mapping[int, Any], value: Any
) -> tuple[Any, float]:
  """Paired by seed: the estimate and the sign-flip test's p."""
  seeds = sorted(runs)
  pairs = [value(runs[seed]) - value(others[seed]) for seed in seeds]
  return estimate(pairs), sign_flip_p(pairs)


def told(found: Any, digits: int, sign: str = "+") -> str:
  """An estimate with its interval; an empty sign leaves out every plus.

  Example:
    >>> from sparse_regimes.studies.statistics import estimate
    >>> told(estimate([1.0, 2.0, 3.0]), 1)
    '+2.0 [-0.5, +4.5]'
  """
  mean, low, high = (
    f"{x:{sign}.{digits}f}" for x in (found.mean, found.low, found.high)
  )
  return f"{mean} [{low}, {high}]"


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
    cell = ""
    if arm != DENSE:
      d, _ = difference(mine, dense, lambda run: last(run, score))
      cell = told(d, 4)
    rate = "0" if arm == DENSE else arm.removeprefix("dropout_")
    lines.append(f"| {rate} | {train.mean:.4f} | {test.mean:.4f} | {cell} |")
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
    "| arm | dense | minus dense arm | p | the same at best epochs |"
    " over budgets | minus dense arm | lowest ratio |",
    "|---|---|---|---|---|---|---|---|",
  ]
  for label, runs in arms.items():
    at_one = estimate([last(run, score) for run in runs.values()])
    mean = estimate([over_budgets(run, score) for run in runs.values()])
    cells = ["", "", "", ""]
    if runs is not dense:
      d, p = difference(runs, dense, lambda run: last(run, score))
      e, _ = difference(runs, dense, lambda run: at_best(run, score))
      b, _ = difference(runs, dense, lambda run: over_budgets(run, score))
      cells = [told(d, 4), f"{p:.2f}", told(e, 4), told(b, 3)]
    lowest = np.mean([run["lowest_keep_ratio"] for run in runs.values()])
    lines.append(
      f"| {label} | {at_one.mean:.4f} | {' | '.join(cells[:3])} |"
      f" {mean.mean:.3f} | {cells[3]} | {lowest:.3f} |"
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
    cell = ""
    if runs is not dense:
      d = estimate(
        [
          run["at_ratios"][at] - other["at_ratios"][at]
          for run, other in zip(runs, dense, strict=True)
        ]
      )
      cell = told(d, 0)
    lowest = np.mean([run["lowest_keep_ratio"] for run in runs])
    lines.append(
      f"| {LABELS.get(arm, arm)} | {' | '.join(f'{x:.0f}' for x in means)} |"
      f" {cell} | {lowest:.3f} |"
    )
  return "\n".join(lines)


# By arm: its name in a figure, colour and dashes.
DRAWN: dict[str, tuple[str, str, Any]] = {
  DENSE: ("dense", "#444444", "-"),
  "dense_calibrated": ("dense, calibrated thresholds", "#999999", "--"),
  "dropout": ("dense, best dropout", "#d98200", "-"),
  "constant_0.1": ("constant 0.1", "#9bd3ae", "-"),
  "constant_0.25": ("constant 0.25", "#2a9d5c", "-"),
  "constant_0.5": ("constant 0.5", "#14532d", "-"),
  "strategy1": ("Strategy 1", "#e78a8a", "--"),
  "strategy1_averaged": ("Strategy 1, averaged", "#c1272d", "-"),
  "gentle": ("gentle", "#b0a000", ":"),
  "strategy2": ("Strategy 2 (ours)", "#7b52ab", "-"),
  "cosine": ("cosine", "#17a2b8", "-."),
  "random_matched": ("Strategy 1's budgets in random order", "#1f77b4", "-"),
  "random": ("random budgets, 0.1 to 1", "#8c564b", "-"),
}
# The front page has those that answer its question.
FRONT = (
  *(DENSE, "dense_calibrated", "dropout", "constant_0.25"),
  *("strategy1_averaged", "random_matched", "random"),
)
TITLES = {
  "text": "language model, first windows",
  "text_cpu": "language model",
  "image": "images",
  "image_augmented": "images, moved and flipped",
}
SMALL = (6.4, 5.2)
UNITS = {"loss": "nats a character (less is better)", "accuracy": "accuracy"}
CHANCE = {"accuracy": 0.1}


def draw(path: Path, tasks: Sequence[str], arms: Iterable[str]) -> None:
  """The score over keep ratios, with the range of the seeds.

  Args:
    path: of the picture.
    tasks: a panel each.
    arms: keys of ``DRAWN``; a task may lack some.
  """
  size = (11, 5) if len(tasks) < 3 else (13, 6.4)
  figure, axes = plt.subplots(1, len(tasks), figsize=size, squeeze=False)
  lines = {}
  for axis, task in zip(axes[0], tasks, strict=True):
    score, _ = TASKS[task]
    runs = read(task)
    for arm in arms:
      name = chosen(runs, task, arm) if arm == "dropout" else arm
      rows = [run["sweep"] for run in _final(runs.get(name, {})).values()]
      if rows:
        ratios = [row["keep_ratio"] for row in rows[0]]
        values = np.array([[row[score] for row in each] for each in rows])
        label = DRAWN[arm][0]
        lines[label] = _banded(axis, arm, ratios, values)
    if score in CHANCE:
      axis.axhline(CHANCE[score], color="#555555", lw=1, ls=(0, (4, 3)))
      axis.text(1, CHANCE[score] + 0.003, "chance", ha="right", color="#555555")
    axis.set_title(TITLES[task])
    axis.set_ylabel(UNITS[score])
  _finish(figure, lines, path)


def draw_cartpole(path: Path) -> None:
  """Returns over keep ratios, with the range of the seeds."""
  content = json.loads((RESULTS / "cartpole.json").read_text())
  figure, axis = plt.subplots(figsize=SMALL)
  lines = {}
  for arm, runs in content["arms"].items():
    key = {"dense": DENSE}.get(arm, arm)
    values = np.array([run["at_ratios"] for run in runs])
    label = DRAWN[key][0]
    lines[label] = _banded(axis, key, content["keep_ratios"], values)
  axis.set_ylabel("return (500 is the most)")
  _finish(figure, lines, path)


def draw_language(path: Path) -> None:
  """Losses over keep ratios of the networks of docs/language.md."""
  colors = ("#444444", "#d98200", "#2a9d5c", "#8c564b", "#c1272d", "#7b52ab")
  figure, axis = plt.subplots(figsize=SMALL)
  lines = {}
  for (name, label), color in zip(
    language_table.ARMS.items(), colors, strict=True
  ):
    text = (language_table.RESULTS / f"{name}-sweep.json").read_text()
    rows = json.loads(text)["rows"]
    x, y = zip(*((r["keep_ratio"], r["loss"]) for r in rows), strict=True)
    (lines[label],) = axis.plot(x, y, "o-", color=color)
  axis.set_ylabel(UNITS["loss"].partition(" (")[0])
  _finish(figure, lines, path)


def _banded(axis: Any, arm: str, ratios: Any, values: np.ndarray) -> Any:
  _, color, dashes = DRAWN[arm]
  (line,) = axis.plot(ratios, values.mean(0), ls=dashes, color=color)
  low, high = values.min(0), values.max(0)
  axis.fill_between(ratios, low, high, color=color, alpha=0.12, linewidth=0)
  return line


def _finish(figure: Any, lines: Mapping[str, Any], path: Path) -> None:
  for axis in figure.axes:
    axis.set_xscale("log")
    lowest = axis.dataLim.x0
    ticks = [t for t in (0.02, 0.05, 0.1, 0.2, 0.5, 1) if t >= lowest * 0.999]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("keep ratio at evaluation")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
  columns = {1: 2, 2: 3}.get(len(figure.axes), 4)
  rows = -(-len(lines) // columns)
  figure.legend(
    *(lines.values(), lines),
    loc="lower center",
    ncols=columns,
    frameon=False,
  )
  figure.tight_layout(rect=(0, 0.02 + 0.05 * rows, 1, 1))
  figure.savefig(path, dpi=110)
  plt.close(figure)


def tables() -> dict[str, Callable[[], str]]:
  """Each of the tables by its name."""
  named: dict[str, Callable[[], str]] = {"rl cartpole": cartpole_table}
  for task in TASKS:
    named[f"{task} control"] = partial(control_table, task)
    named[f"{task} arms"] = partial(arms_table, task)
    named[f"{task} budgets"] = partial(budgets_table, task)
  return named


def draw_all() -> None:
  """The figures."""
  with plt.rc_context({"font.size": 12}):
    draw(RESULTS / "budgets.png", ("text_cpu", "image"), FRONT)
  every = ("text", "image", "image_augmented")
  draw(RESULTS / "budgets_all.png", every, DRAWN)
  # For half of a page's width.
  with plt.rc_context({"font.size": 13}):
    draw_cartpole(RESULTS / "cartpole.png")
    draw_language(language_table.RESULTS / "budgets.png")
