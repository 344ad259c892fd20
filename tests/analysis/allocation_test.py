"""The greedy search for sparsities by site."""

import itertools

import numpy as np
import pytest

from sparse_regimes.analysis import greedy_allocation


def separable(costs):
  return lambda s: float(np.asarray(costs) @ np.asarray(s) ** 2)


def test_of_separable_convex_errors_it_finds_the_best():
  costs, weights, step = (3.0, 1.0, 0.5), (1, 1, 1), 0.125
  rows = greedy_allocation(separable(costs), weights, 0.8, step)
  grid = np.arange(0, 1 + step / 2, step)
  for number, row in enumerate(rows, start=1):
    best = min(
      separable(costs)(s)
      for s in itertools.product(grid, repeat=3)
      if np.isclose(sum(s), number * step)
    )
    assert row.error == pytest.approx(best)
    assert row.sparsity == pytest.approx(number * step / 3)


def test_with_weights_it_is_near_the_known_optimum():
  # min of sum c s^2 with sum w s fixed: s in proportion to w / c.
  costs, weights = np.array([2.0, 1.0, 4.0]), np.array([1.0, 0.25, 3.5])
  rows = greedy_allocation(separable(costs), weights, 0.4, 0.005)
  optimum = weights / costs
  optimum *= 0.4 * weights.sum() / (weights @ optimum)
  assert optimum.max() < 1
  np.testing.assert_allclose(rows[-1].by_site, optimum, atol=0.03)
  assert rows[-1].sparsity == pytest.approx(0.4, abs=0.002)


def test_each_step_buys_the_same():
  weights = (1, 0.25, 3.5)
  rows = greedy_allocation(separable((1, 1, 1)), weights, 0.3, 0.05)
  sparsities = [0.0, *(row.sparsity for row in rows)]
  np.testing.assert_allclose(np.diff(sparsities), 0.05 / 4.75, rtol=1e-9)
  before = np.zeros(3)
  for row in rows:
    moved = np.array(row.by_site) - before
    (site,) = np.flatnonzero(moved)
    assert moved[site] == pytest.approx(0.05 / weights[site])
    before = np.array(row.by_site)


def test_sites_that_are_alike_get_the_same():
  rows = greedy_allocation(separable((1, 1, 1, 1)), (1, 1, 1, 1), 0.9)
  for row in rows:
    assert np.ptp(row.by_site) <= 0.05 + 1e-9
  for row in rows[3::4]:
    assert np.ptp(row.by_site) == 0
    assert row.error == pytest.approx(row.uniform_error)


def test_it_is_monotone_and_no_worse_than_uniform():
  rng = np.random.default_rng(0)
  matrix = rng.normal(size=(5, 5)) ** 2

  def error_fn(s):
    return float(np.sum((matrix @ s) ** 2) + s @ np.array([9, 1, 1, 1, 0.1]))

  rows = greedy_allocation(error_fn, (1, 1, 2, 0.5, 1), 1.0)
  for row, after in itertools.pairwise(rows):
    assert row.sparsity < after.sparsity
    assert row.error < after.error
    assert (np.array(row.by_site) <= np.array(after.by_site)).all()
  better = [row.error <= row.uniform_error + 1e-9 for row in rows]
  assert np.mean(better) > 0.95
  assert rows[-1].by_site == (1.0,) * 5
  for row in rows:
    average = np.average(row.by_site, weights=(1, 1, 2, 0.5, 1))
    assert row.sparsity == pytest.approx(average)
    assert row.error == pytest.approx(error_fn(np.array(row.by_site)))
    assert row.uniform_error == pytest.approx(error_fn(np.full(5, average)))


def test_it_ends_at_the_target_and_not_later():
  for target in (0.05, 0.35, 0.5, 0.9):
    rows = greedy_allocation(separable((1,)), (1,), target)
    assert len(rows) == round(target / 0.05)
    assert rows[-1].sparsity == pytest.approx(target)
  assert greedy_allocation(separable((1,)), (1,), 0) == []


def test_a_site_of_which_nothing_is_left_is_not_tried():
  tried = []

  def error_fn(s):
    tried.append(tuple(s))
    return float(s[1])

  rows = greedy_allocation(error_fn, (1, 1), 1.0, 0.3)
  assert rows[3].by_site == (1.0, 0.0)
  assert max(s[0] for s in tried) == 1


def test_the_first_of_equals_is_taken():
  rows = greedy_allocation(lambda s: 0.0, (1, 1), 0.05)
  assert [row.by_site for row in rows] == [(0.05, 0.0), (0.1, 0.0)]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"weights": ()}, "weights must have an entry for each site"),
    ({"weights": (1, 0)}, "weights must be at least"),
    ({"target": 1.5}, r"target must be in \[0, 1\], got 1.5"),
    ({"target": float("nan")}, "target must be in"),
    ({"base_step": 0}, "base_step must be in"),
    ({"error_fn": lambda s: float("nan")}, "error_fn must return a number"),
  ],
)
def test_bad_values_are_named(arguments, message):
  given = {"error_fn": separable((1, 1)), "weights": (1, 1), "target": 0.5}
  with pytest.raises(ValueError, match=message):
    greedy_allocation(**given | arguments)
