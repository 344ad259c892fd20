r"""A control that draws its budgets from those that other runs had.

Usage:
  python -m sparse_regimes match_budgets --runs=runs/wrn_strategy1/seed0,... \
    [--points=21] [--out=budgets.csv]

Prints quantiles of the budget over all steps of the runs, in place of the
controller of a config: the same budgets, without their order and without
feedback. Writes every move of every run to ``--out``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.files import write
from sparse_regimes.runs.trace import read_trace
from sparse_regimes.studies.cli import Parser, csv_text


def budgets(workdirs: Sequence[Path]) -> tuple[list[list[str]], np.ndarray]:
  """Every move of the budget, ``run, first_step, keep_ratio``, and all steps'.

  Raises:
    InputError: if one is no run.
  """
  moves, pooled = [], []
  for i, workdir in enumerate(workdirs):
    trace = read_trace(epath.Path(workdir))
    steps, ratios = trace.budget.steps, trace.budget.keep_ratios
    pooled.append(np.repeat(ratios, np.diff([*steps, trace.steps + 1])))
    moves += [
      [str(i), str(step), f"{ratio:.6g}"]
      for step, ratio in zip(steps, ratios, strict=True)
    ]
  return moves, np.concatenate(pooled)


def match_budgets(argv: Sequence[str] | None = None) -> int:
  """Runs the command."""
  parser = Parser(__doc__)
  parser.add_argument("--runs", required=True)
  parser.add_argument("--points", type=int, default=21)
  parser.add_argument("--out", type=Path, default=Path("budgets.csv"))
  args = parser.parse_args(argv)
  if not 2 <= args.points <= 1000:
    raise InputError(f"--points must be from 2 to 1000, got {args.points}")
  workdirs = [Path(part) for part in args.runs.split(",") if part]
  if not workdirs:
    raise InputError(f"--runs must be folders of runs, got {args.runs!r}")
  moves, ratios = budgets(workdirs)
  header = ["run", "first_step", "keep_ratio"]
  write(epath.Path(args.out), csv_text([header, *moves]))
  quantiles = np.quantile(ratios, np.linspace(0, 1, args.points))
  print('config.controller.name = "random_ratio"')
  print(f"config.controller.keep_min = {quantiles[0]:.6g}")
  print(f"config.controller.keep_max = {quantiles[-1]:.6g}")
  print("config.controller.quantiles = (")
  for quantile in quantiles:
    print(f"  {quantile:.6g},")
  print(")")
  print(f"# of {len(ratios):,} steps; every move is in {args.out}")
  return 0
