"""The figures of docs/methods.md follow from their records."""

import doctest
import json
import sys

import pytest
from running import ROOT

sys.path.insert(0, str(ROOT / "experiments"))
RESULTS = ROOT / "experiments" / "results"
PAGE = (ROOT / "docs" / "methods.md").read_text()


def test_the_costs_of_masks():
  content = json.loads((RESULTS / "bench_masks-cpu.json").read_text())
  language, residual = (row["over_topk"] for row in content["rows"])
  for mask, ratio in language.items():
    name = "dense" if mask == "dense" else f"`{mask}`"
    assert f"| {name} | {ratio:.2f} | {residual[mask]:.2f} |" in PAGE


@pytest.mark.parametrize("run", ["lm_dense", "lm_random"])
def test_the_calibrated_networks(run):
  table = (RESULTS / "calibrate" / f"{run}.md").read_text()
  for line in table.splitlines()[2:]:
    sparsity, *cells = (cell.strip() for cell in line.strip("|").split("|"))
    told = " | ".join(cells[:3])
    assert f"| {sparsity} | {told} |" in PAGE


def test_the_comparison_of_masks():
  import methods_table

  runs = json.loads((RESULTS / "methods" / "runs.json").read_text())
  assert {len(seeds) for seeds in runs.values()} == {3}
  for line in methods_table.table(runs).splitlines():
    assert line in PAGE


def test_between_measured_shares():
  import methods_table

  failures, tried = doctest.testmod(methods_table)
  assert failures == 0
  assert tried > 0
