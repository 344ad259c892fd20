r"""The paper's table: WRN-28-4 for 500 epochs of CIFAR-10, in resumable pieces.

Usage:
  python -m sparse_regimes table [--minutes=8.5] [--seeds=1] \
    [--out=runs/table] [--config.section.field=value ...]

Each call trains for at most ``--minutes``, saves, and writes what there is;
the same command goes on, as often as it takes. Arms: dense, Strategy 1,
Strategy 2 (our reading: the paper's is not public). ``--config`` overrides are
for a try at small scale; their table says so.

Writes ``table.md`` and ``table.json`` to the folder, a row a run, beside the
paper's numbers; what is not finished is labelled partial, and a run whose loss
was not finite diverged. Exits as ``compare.py`` does: 4 while there is more to
do.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from sparse_regimes.files import write
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.journal import read_records
from sparse_regimes.runs.pace import format_seconds
from sparse_regimes.runs.workdir import FREE
from sparse_regimes.studies.arms import Run, make_runs, parse_seeds
from sparse_regimes.studies.cli import (
  Parser,
  check_minutes,
  markdown,
  state,
  typed,
)
from sparse_regimes.studies.queue import run_all

# Test accuracy at the end of the paper's single runs.
PAPER = {"wrn_dense": 0.869, "wrn_strategy1": 0.8797, "wrn_strategy2": 0.8802}
FINISHED = "finished"
COLUMNS = (
  "arm",
  "seed",
  "paper",
  "state",
  "dense accuracy",
  "best dense",
  "at the last budget",
  "last ratio",
  "resets",
  "images/s",
  "time",
  "device",
)

# In table.md, which a terminal has room for; table.json has all.
SHOWN = (
  *("arm", "seed", "paper", "state", "dense accuracy"),
  *("at the last budget", "last ratio", "time"),
)


def row(run: Run) -> dict[str, Any]:
  """What is known of a run, by column; None where nothing is."""
  log = epath.Path(run.workdir) / "metrics.jsonl"
  records = read_records(log) if log.exists() else []
  records = [r for r in records if r["test_dense_accuracy"] is not None]
  known: dict[str, Any] = dict.fromkeys(COLUMNS)
  known |= {"arm": run.arm, "seed": run.seed, "paper": PAPER[run.arm]}
  epochs = run.load().train.epochs
  summary = run.summary()
  if summary and not summary["diverged"]:
    known["state"] = FINISHED
  elif summary:
    known["state"] = f"diverged after epoch {len(records)} of {epochs}"
  elif records:
    known["state"] = f"partial, epoch {len(records)} of {epochs}"
  else:
    known["state"] = "not begun"
  if records:
    last = records[-1]
    known |= {
      "dense accuracy": last["test_dense_accuracy"],
      "best dense": max(r["test_dense_accuracy"] for r in records),
      "at the last budget": last["test_sparse_accuracy"],
      "last ratio": last["keep_ratio"],
      "images/s": last["images_per_second"],
    }
  if summary:
    pace = summary["images_per_second"]
    known |= {
      "resets": summary["resets"],
      "images/s": None if math.isnan(pace) else pace,
      "time": format_seconds(summary["seconds"]),
      "device": summary["device"],
    }
  return known


def write_table(
  folder: Path, runs: Sequence[Run], overrides: Sequence[str], command: str
) -> str:
  """Writes both files; returns the table as text."""
  rows = [row(run) for run in runs]
  done = sum(r["state"] == FINISHED for r in rows)
  how_far = state(done, len(rows))
  changed = [o for o in overrides if not o.startswith((*FREE, "data.dir="))]
  if changed:
    how_far += f". NOT the paper's setting: {', '.join(changed)}"
  text = markdown(SHOWN, [[_cell(r[name]) for name in SHOWN] for r in rows])
  out = epath.Path(folder)
  out.mkdir(parents=True, exist_ok=True)
  content = {"state": how_far, "command": command, "rows": rows}
  text_of_all = json.dumps(content, indent=2, allow_nan=False)
  write(out / "table.json", text_of_all + "\n")
  note = "Best accuracy, resets, pace and device are in table.json."
  write(out / "table.md", f"{how_far}\n\n{text}\n{note}\n\n`{command}`\n")
  return f"{how_far}\n{text}"


def _cell(value: Any) -> str:
  if value is None:
    return ""
  return f"{value:.4f}" if isinstance(value, float) else str(value)


def table(argv: Sequence[str] | None = None) -> int:
  """Runs the command."""
  parser = Parser(__doc__)
  parser.add_argument("--minutes", type=float, default=8.5, help="0: no limit")
  parser.add_argument("--seeds", default="3407,")
  parser.add_argument("--out", type=Path, default=Path("runs/table"))
  args, rest = parser.parse_known_args(argv)
  check_minutes(args.minutes)
  overrides = configs.parse_overrides(rest)
  runs = make_runs([*PAPER], parse_seeds(args.seeds), args.out, overrides)
  command = typed("table", argv)
  try:
    finished = run_all(runs, minutes=args.minutes)
  finally:
    print(write_table(args.out, runs, overrides, command))
    print(f"written     table.md and table.json in {args.out}")
  return 0 if finished else 4
