"""Every table that follows from records, on every page that shows it.

Usage:
  python experiments/tables.py

A table stands between ``<!-- NAME -->`` and ``<!-- end -->``, NAME being one of
``TABLES``. Writes the pages anew, and draws the figures of the study of
regimes. A test compares the pages with the records.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import language_table
import methods_table
import regimes_table

from sparse_regimes.runs.pace import format_seconds
from sparse_regimes.studies.cli import markdown
from sparse_regimes.studies.statistics import estimate

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
_MARK = re.compile(r"(<!-- (\w+ \w+) -->\n).*?(<!-- end -->)", re.DOTALL)

CPU_SCALE = {
  "cpu_dense": "dense",
  "cpu_strategy1": "Strategy 1",
  "cpu_strategy2": "Strategy 2 (our reading)",
  "cpu_constant": "best constant ratio",
  "cpu_random": "random ratio each step",
  "cpu_matched": "random ratio, Strategy 1's distribution",
  "cpu_tuned": "dense, dropout and weight decay tuned",
}
# What each run is.
TRAINED = {
  "quickstart": "WRN-10-1, Strategy 1, 30 epochs of the embedded 1,280 images",
  "wrn10_cpu": "WRN-10-1, Strategy 1, 3 epochs of CIFAR-10",
}
COLLAPSE = {
  "": "none: the released controller",
  "controller.name=constant": "`controller.name=constant` (dense)",
}
COLLAPSE_FILES = {
  "": "released",
  "optimizer.rollback=True": "rollback",
  "controller.name=constant": "dense",
}


def rows_of(path: Path) -> list[dict[str, str]]:
  """Of a CSV file."""
  with open(path) as file:
    return [*csv.DictReader(file)]


def cpu_scale_arms() -> str:
  """The first study: dense test accuracy, and its difference to dense."""
  found: dict[str, dict[str, float]] = {}
  for row in rows_of(RESULTS / "cpu_scale" / "runs.csv"):
    found.setdefault(row["arm"], {})[row["seed"]] = float(row["dense accuracy"])
  lines = []
  dense = found["cpu_dense"]
  for arm, label in CPU_SCALE.items():
    runs = found[arm]
    at = estimate([*runs.values()])
    cell = ""
    if arm != "cpu_dense":
      pairs = [runs[seed] - dense[seed] for seed in dense]
      cell = regimes_table.told(estimate(pairs), 4)
    lines.append([label, f"{at.mean:.4f} ± {at.sd:.4f}", cell])
  return markdown(
    ["arm", "dense test accuracy", "minus dense, 95 % interval"], lines
  )


def cpu_scale_table() -> str:
  """The same as ``compare`` wrote it."""
  text = (RESULTS / "cpu_scale" / "table.md").read_text()
  return "\n".join(s for s in text.splitlines() if s.startswith("| "))


def collapse_options() -> str:
  """What each option came to."""
  lines = []
  for row in rows_of(RESULTS / "collapse" / "runs.csv"):
    option = row["arm"].partition("+")[2]
    name = option.partition("=")[0].rpartition(".")[2]
    name = COLLAPSE_FILES.get(option, name)
    record = json.loads((RESULTS / "collapse" / f"{name}.json").read_text())
    ends = record["collapses"]
    for_good = ", for good" if ends and ends[-1][1] is None else ""
    lines.append(
      [
        COLLAPSE.get(option, f"`{option}`"),
        f"{float(row['dense accuracy']):.4f}",
        f"{float(row['best dense']):.4f}",
        f"{row['collapses']}{for_good}",
        row["resets"],
        f"{float(row['lowest ratio']):.4f}",
      ]
    )
  heads = ["option", "dense test accuracy at the end", "best", "collapses"]
  return markdown([*heads, "resets", "lowest ratio"], lines)


def training_runs() -> str:
  """Runs that show that it works."""
  lines = []
  for name, what in TRAINED.items():
    summary = json.loads((RESULTS / name / "summary.json").read_text())
    last = f"{summary['final_test_sparse_accuracy']:.4f}"
    cores = summary["host"].partition(" ")[0]
    lines.append(
      [
        f"`{name}`",
        what,
        f"{summary['final_test_dense_accuracy']:.4f}",
        f"{last} at {summary['final_keep_ratio']:.3g}",
        f"{cores} CPU cores, {format_seconds(summary['seconds'])}",
      ]
    )
  heads = ["run", "what", "dense test accuracy", "at the last budget"]
  return markdown([*heads, "hardware, time"], lines)


def cartpole_returns() -> str:
  """Two trained players at their budgets."""
  folder = RESULTS / "reinforcement"
  dense, regimes = (
    json.loads((folder / f"ppo_cartpole_{arm}-sweep.json").read_text())["rows"]
    for arm in ("dense", "strategy1")
  )
  lines = [
    [f"{round(a['keep_ratio'], 3):g}", *(f"{x['return']:.1f}" for x in (a, b))]
    for a, b in zip(dense, regimes, strict=True)
  ]
  return markdown(["keep ratio", "dense-trained", "Strategy 1"], lines)


def masks() -> str:
  """Of the comparison of masks."""
  text = (methods_table.RESULTS / "runs.json").read_text()
  return methods_table.table(json.loads(text))


TABLES: dict[str, Callable[[], str]] = {
  **regimes_table.tables(),
  "cpu_scale arms": cpu_scale_arms,
  "cpu_scale table": cpu_scale_table,
  "collapse options": collapse_options,
  "training runs": training_runs,
  "language arms": language_table.table,
  "reinforcement cartpole": cartpole_returns,
  "methods masks": masks,
}


def pages() -> Iterator[Path]:
  """That may have one."""
  yield ROOT / "README.md"
  yield from sorted((ROOT / "docs").glob("*.md"))
  yield from sorted(RESULTS.glob("*/README.md"))


def filled(page: str) -> str:
  """The page with every marked table as its records have it."""

  def table(mark: re.Match[str]) -> Any:
    return f"{mark[1]}\n{TABLES[mark[2]]().strip()}\n\n{mark[3]}"

  return _MARK.sub(table, page)


def main() -> None:
  for path in pages():
    old = path.read_text()
    new = filled(old)
    if new != old:
      path.write_text(new)
      print(f"written  {path.relative_to(ROOT)}")
  regimes_table.draw_all()


if __name__ == "__main__":
  main()
