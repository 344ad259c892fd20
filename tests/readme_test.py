"""What the README says runs, and its numbers are those of result files."""

import json
import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "experiments" / "results"


def test_the_example_for_other_projects_runs(capsys):
  (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
  names: dict = {}
  # The tests promote dtypes strictly; optax.adam does not.
  with jax.numpy_dtype_promotion("standard"):
    exec(compile(code, "README.md", "exec"), names)
  assert names["metrics"]["loss"] < 1.0
  assert names["state"].controller_state.keep_ratio < 1.0
  assert capsys.readouterr().out


def test_every_link_leads_somewhere():
  for target in re.findall(r"\]\(([^)]+)\)", README):
    if not target.startswith("https://"):
      assert (ROOT / target).exists(), target


def test_every_config_named_exists():
  for name in re.findall(r"configs/\w+\.py", README):
    assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["quickstart", "wrn10_cpu"])
def test_the_results_table_is_that_of_the_result_files(name):
  summary = json.loads((RESULTS / name / "summary.json").read_text())
  (row,) = (line for line in README.splitlines() if f"| `{name}`" in line)
  for key in ("final_test_dense_accuracy", "final_test_sparse_accuracy"):
    assert f"{summary[key]:.4f}" in row, key
  lines = (RESULTS / name / "metrics.jsonl").read_text().splitlines()
  last = json.loads(lines[-1])
  assert last["test_dense_accuracy"] == summary["final_test_dense_accuracy"]
  assert last["epoch"] == summary["epochs"]
