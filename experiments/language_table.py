r"""Gathers runs of the language configs: files of results, and their table.

Usage:
  python experiments/language_table.py FOLDER

FOLDER has a run of each of ``ARMS`` under its name, swept at ``RATIOS`` by one
command:
  cd FOLDER; python -m sparse_regimes eval --workdir=lm_dense \
    --against=lm_dropout,lm_constant,lm_random,lm_strategy1,lm_strategy2 \\
    --keep_ratios=1,0.5,0.2,0.1,0.05
Copies ``sweep.png``, every ``summary.json`` and ``sweep.json`` to
``results/language/`` and prints the table of docs/language.md.
"""

import json
import shutil
import sys
from pathlib import Path

ARMS = {
  "lm_dense": "dense",
  "lm_dropout": "dense, dropout 0.2",
  "lm_constant": "constant, 0.25",
  "lm_random": "random, 0.05 to 1",
  "lm_strategy1": "Strategy 1",
  "lm_strategy2": "Strategy 2 (our reading)",
}
RATIOS = (1.0, 0.5, 0.2, 0.1, 0.05)
RESULTS = Path(__file__).parent / "results" / "language"


def table(folder: Path = RESULTS) -> str:
  """Nats on the held-out text, by arm and keep ratio."""
  heads = [f"at {ratio:g}" for ratio in RATIOS[1:]]
  lines = [
    f"| arm | nats, dense | {' | '.join(heads)} | bits a byte | resets |",
    "|---" * (len(RATIOS) + 3) + "|",
  ]
  for name, label in ARMS.items():
    rows = json.loads((folder / f"{name}-sweep.json").read_text())["rows"]
    summary = json.loads((folder / f"{name}-summary.json").read_text())
    by_ratio = {round(row["keep_ratio"], 6): row for row in rows}
    cells = [f"{by_ratio[ratio]['loss']:.3f}" for ratio in RATIOS]
    bits = f"{by_ratio[1.0]['bits_per_byte']:.3f}"
    lines.append(
      f"| {label} | {' | '.join(cells)} | {bits} | {summary['resets']} |"
    )
  return "\n".join(lines)


def main() -> None:
  folder = Path(sys.argv[1])
  RESULTS.mkdir(parents=True, exist_ok=True)
  for name in ARMS:
    for kind in ("sweep", "summary"):
      shutil.copy(
        folder / name / f"{kind}.json", RESULTS / f"{name}-{kind}.json"
      )
  shutil.copy(folder / "lm_dense" / "sweep.png", RESULTS / "sweep.png")
  print(table())


if __name__ == "__main__":
  main()
