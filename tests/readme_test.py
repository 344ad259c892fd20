"""What the README says runs, and its numbers are those of result files."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "experiments" / "results"


@pytest.mark.slow
def test_the_example_for_other_projects_runs(capsys):
  (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
  names: dict = {}
  # The tests promote dtypes strictly; optax.adam does not.
  with jax.numpy_dtype_promotion("standard"):
    exec(compile(code, "README.md", "exec"), names)
  assert names["metrics"]["loss"] < 1.0
  assert names["state"].controller_state.keep_ratio < 1.0
  assert capsys.readouterr().out


def test_the_example_of_the_projections_runs():
  page = (ROOT / "docs" / "flat_minima.md").read_text()
  (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  names: dict = {}
  exec(compile(code, "flat_minima.md", "exec"), names)
  params = names["params"]
  grads = jax.tree.map(jnp.ones_like, params)
  with jax.numpy_dtype_promotion("standard"):
    updates, _ = names["tx"].update(grads, names["state"], params)
  assert jnp.all(params["norm"]["scale"] + updates["norm"]["scale"] >= 1)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
  for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
    if not target.startswith("https://"):
      assert (page.parent / target).exists(), target


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
