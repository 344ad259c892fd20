"""sparse_regimes/studies/match_budgets.py."""

import csv
from types import SimpleNamespace

import numpy as np

from sparse_regimes import controllers
from sparse_regimes.runs.cycles import Budget
from sparse_regimes.studies import match_budgets
from sparse_regimes.studies.cli import exit_code


def test_the_control_has_the_budgets_of_the_runs(monkeypatch, tmp_path, capsys):
  # Half of all steps at 1, a quarter each at 0.5 and 0.2.
  traces = {
    "a": SimpleNamespace(steps=4, budget=Budget([1, 3], [1.0, 0.5])),
    "b": SimpleNamespace(steps=4, budget=Budget([1, 3], [1.0, 0.2])),
  }
  monkeypatch.setattr(match_budgets, "read_trace", lambda p: traces[p.name])
  out = tmp_path / "budgets.csv"
  arguments = ["--runs=a,b", "--points=9", f"--out={out}"]
  assert exit_code(lambda: match_budgets.match_budgets(arguments)) == 0
  printed = capsys.readouterr().out
  config = SimpleNamespace(controller=SimpleNamespace())
  exec(printed, {"config": config})
  written = vars(config.controller)
  assert written.pop("name") == "random_ratio"
  pooled = [1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.2, 0.2]
  expected = np.quantile(pooled, np.linspace(0, 1, 9))
  np.testing.assert_allclose(written["quantiles"], expected, rtol=1e-5)
  assert (written["keep_min"], written["keep_max"]) == (0.2, 1.0)
  # It is a controller's.
  controllers.random_ratio(**written).init()
  with open(out) as file:
    moves = [(r["run"], float(r["keep_ratio"])) for r in csv.DictReader(file)]
  assert moves == [("0", 1.0), ("0", 0.5), ("1", 1.0), ("1", 0.2)]


def test_bad_input_is_a_line(tmp_path, capsys):
  for arguments, message in (
    ([f"--runs={tmp_path}"], "trace.json could not be read"),
    (["--runs=,"], "--runs must be folders of runs"),
    ([f"--runs={tmp_path}", "--points=1"], "--points must be from 2 to 1000"),
  ):
    assert exit_code(lambda a=arguments: match_budgets.match_budgets(a)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
