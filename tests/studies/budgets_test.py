"""What a score is over all budgets, in one number."""

import json
import math

import numpy as np
import pytest

from sparse_regimes.errors import InputError
from sparse_regimes.studies import arms as arms_and_seeds
from sparse_regimes.studies import budgets


def test_by_hand():
  # From 0.02 to 0.2 a straight line from 0.1 to 0.3, of mean 0.2, over a factor
  # of 10; from 0.2 to 1 another from 0.3 to 0.5, of mean 0.4, over one of 5.
  ratios, scores = [1.0, 0.02, 0.2], [0.5, 0.1, 0.3]
  expected = (0.2 * math.log(10) + 0.4 * math.log(5)) / math.log(50)
  got = budgets.mean_over_budgets(ratios, scores)
  assert got == pytest.approx(expected, rel=1e-12)
  assert got == pytest.approx(0.28228, abs=1e-5)


def test_a_constant_score_is_its_mean_whatever_was_measured():
  for ratios in ([0.02, 1.0], [0.01, 0.3, 1.0], [0.0, 0.001, 0.5, 1.0]):
    scores = [0.25] * len(ratios)
    assert budgets.mean_over_budgets(ratios, scores) == pytest.approx(0.25)


def test_what_lies_below_the_range_counts_for_nothing_but_its_end():
  # At 0.02 the line from 0.01 to 0.04 is half way in the logarithm.
  wide = budgets.mean_over_budgets([0.01, 0.04, 1.0], [0.0, 0.2, 0.6])
  inside = budgets.mean_over_budgets([0.02, 0.04, 1.0], [0.1, 0.2, 0.6])
  assert wide == pytest.approx(inside, rel=1e-12)


def test_it_is_the_mean_over_a_fine_grid_in_equal_factors():
  ratios, scores = [0.02, 0.05, 0.3, 1.0], [0.1, 0.5, 0.4, 0.45]
  grid = np.geomspace(0.02, 1.0, 100_001)
  values = np.interp(np.log(grid), np.log(ratios), scores)
  got = budgets.mean_over_budgets(ratios, scores)
  assert got == pytest.approx(values.mean(), abs=1e-4)


@pytest.mark.parametrize(
  ("ratios", "message"),
  [
    ([0.1, 1.0], "must reach from 0.02 to 1, got 0.1 to 1"),
    ([0.02, 0.9], "must reach from 0.02 to 1, got 0.02 to 0.9"),
    ([0.0, 0.0], "different keep ratios"),
    ([0.0], "got none"),
    ([], "got none"),
  ],
)
def test_a_sweep_that_does_not_reach_is_a_line(ratios, message):
  with pytest.raises(InputError, match=message):
    budgets.mean_over_budgets(ratios, [0.5] * len(ratios))


def test_a_score_that_is_not_known_is_not_made_up():
  got = budgets.mean_over_budgets([0.02, 0.1, 1.0], [math.nan, 0.2, 0.3])
  assert math.isnan(got)
  # Below the range it does not matter.
  got = budgets.mean_over_budgets([0.01, 0.02, 1.0], [math.nan, 0.2, 0.2])
  assert got == pytest.approx(0.2)


def row(ratio, accuracy):
  sites = {"site_nonzero": [0.5]}
  return {"keep_ratio": ratio, "accuracy": accuracy, "loss": 1.0} | {
    "nonzero": 0.5,
    **sites,
  }


def write_sweep(workdir, scores, **content):
  """As ``--mode=eval`` leaves it."""
  workdir.mkdir(parents=True, exist_ok=True)
  rows = [row(ratio, accuracy) for ratio, accuracy in scores.items()]
  content = {"checkpoint": "last", "epoch": 3, "rows": rows} | content
  (workdir / "sweep.json").write_text(json.dumps(content))


def test_arms_have_a_mean_when_all_their_runs_are_swept(tmp_path):
  runs = arms_and_seeds.make_runs(["smoke"], [0, 1], tmp_path, [])
  write_sweep(runs[0].workdir, {1.0: 0.5, 0.02: 0.3}, chance={"accuracy": 0.1})
  found = budgets.sweeps_of(runs, "accuracy")
  assert found["smoke"][0].scores == {0.02: 0.3, 1.0: 0.5}
  assert found["smoke"][0].chance == 0.1
  assert budgets.means_of(found, {"smoke": [0]}) == {
    "smoke": {0: pytest.approx(0.4)}
  }
  # One of two is not swept, or not far enough.
  assert budgets.means_of(found, {"smoke": [0, 1]}) == {}
  write_sweep(runs[1].workdir, {1.0: 0.7, 0.1: 0.3})
  found = budgets.sweeps_of(runs, "accuracy")
  assert found["smoke"][1].chance is None
  assert budgets.means_of(found, {"smoke": [0, 1]}) == {}
  write_sweep(runs[1].workdir, {1.0: 0.7, 0.02: 0.3})
  found = budgets.sweeps_of(runs, "accuracy")
  assert budgets.means_of(found, {"smoke": [0, 1]})["smoke"] == {
    0: pytest.approx(0.4),
    1: pytest.approx(0.5),
  }


def test_a_ratio_for_each_site_is_left_out(tmp_path):
  (run,) = arms_and_seeds.make_runs(["smoke"], [0], tmp_path, [])
  write_sweep(run.workdir, {1.0: 0.5})
  path = run.workdir / "sweep.json"
  content = json.loads(path.read_text())
  content["rows"].append(row(0.3, 0.2) | {"site_keep_ratio": [0.3]})
  path.write_text(json.dumps(content))
  found = budgets.sweeps_of([run], "accuracy")
  assert found["smoke"][0].scores == {1.0: 0.5}
  assert budgets.sweeps_of([run], "return") == {"smoke": {}}


def test_a_sweep_half_written_is_named(tmp_path):
  (run,) = arms_and_seeds.make_runs(["smoke"], [0], tmp_path, [])
  run.workdir.mkdir(parents=True)
  (run.workdir / "sweep.json").write_text("{")
  with pytest.raises(InputError, match=r"sweep\.json could not be read"):
    budgets.sweeps_of([run], "accuracy")
