r"""The comparison of masks: nats at an equal share of active units.

Usage:
  python experiments/methods_table.py FOLDER

FOLDER is that of the ``compare`` of ``results/methods/PROTOCOL.md``. Sweeps
every finished run, writes ``results/methods/runs.json`` and prints the table.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from sparse_regimes.commands.evaluate import sweep_runs
from sparse_regimes.studies.statistics import estimate, sign_flip_p

RESULTS = Path(__file__).parent / "results" / "methods"
RATIOS = (1.0, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
SHARE = 0.25
BASELINE = "lm_constant"
ARMS = {
  "lm_constant": "top-k",
  "lm_constant+model.gradient=straight_through": "top-k, straight-through",
  "lm_constant+model.mask=nm:4": "1 of 4",
  "lm_constant+model.mask=statistical": "statistical",
  "lm_constant+model.mask=threshold": "threshold",
  "lm_dense": "trained dense, top-k",
}


def at_share(rows: Sequence[Mapping[str, float]], share: float) -> float:
  """Nats at an active share, between those that were measured.

  Linear in the logarithm of the share.

  Raises:
    ValueError: if the share lies outside of what was measured.

  Example:
    >>> rows = [{"nonzero": 0.1, "loss": 3.0}, {"nonzero": 1.0, "loss": 2.0}]
    >>> print(f"{at_share(rows, 10**-0.5):.2f}")
    2.50
  """
  measured = sorted((row["nonzero"], row["loss"]) for row in rows)
  shares = [each for each, _ in measured]
  if not shares[0] - 1e-3 <= share <= shares[-1] + 1e-3:
    raise ValueError(
      f"share must be from {shares[0]:.3f} to {shares[-1]:.3f}, got {share}"
    )
  return float(
    np.interp(math.log(share), np.log(shares), [loss for _, loss in measured])
  )


def collect(folder: Path) -> dict[str, dict[str, Any]]:
  """By arm and seed the nats at ``SHARE`` and dense."""
  found: dict[str, dict[str, Any]] = {}
  for arm in ARMS:
    for run in sorted((folder / arm).glob("seed[0-9]*")):
      if not (run / "summary.json").exists():
        continue
      if not (run / "sweep.json").exists():
        sweep_runs([epath.Path(run)], [], RATIOS, "last")
      sweep = json.loads((run / "sweep.json").read_text())["rows"]
      rows = [{n: row[n] for n in ("nonzero", "loss")} for row in sweep]
      found.setdefault(arm, {})[run.name.removeprefix("seed")] = {
        "at_share": at_share(rows, SHARE),
        "dense": sweep[0]["loss"],
        "rows": rows,
      }
  return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
  """Means over seeds, and what each is over top-k, paired by seed."""
  lines = [
    f"| trained with | seeds | nats at a share of {SHARE} | minus top-k |"
    " nats dense |",
    "|---|---|---|---|---|",
  ]
  others = found[BASELINE]
  for arm, label in ARMS.items():
    runs = found.get(arm, {})
    if not runs:
      continue
    at = estimate([run["at_share"] for run in runs.values()])
    dense = estimate([run["dense"] for run in runs.values()])
    pairs = [
      run["at_share"] - others[seed]["at_share"]
      for seed, run in runs.items()
      if seed in others
    ]
    difference = ""
    if arm != BASELINE and len(pairs) > 1:
      d = estimate(pairs)
      difference = (
        f"{d.mean:+.4f} [{d.low:.4f}, {d.high:.4f}], p {sign_flip_p(pairs):.2f}"
      )
    lines.append(
      f"| {label} | {at.n} | {at.mean:.4f} ± {at.sd:.4f} | {difference} |"
      f" {dense.mean:.4f} |"
    )
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", type=Path)
  found = collect(parser.parse_args().folder)
  RESULTS.mkdir(parents=True, exist_ok=True)
  text = json.dumps(found, indent=1, allow_nan=False)
  (RESULTS / "runs.json").write_text(text + "\n")
  print(table(found))


if __name__ == "__main__":
  main()
