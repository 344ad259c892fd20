"""The controls, which move the budget without looking."""

import numpy as np
import pytest
from controllers.contract_test import ACCURACY, run

from sparse_regimes import controllers


def ratios(controller, accuracy):
  return np.array([s.keep_ratio for s in run(controller, accuracy)])


@pytest.mark.parametrize(
  "controller",
  [controllers.cosine(decide_every=3), controllers.random_ratio()],
)
def test_accuracy_decides_nothing(controller):
  np.testing.assert_array_equal(
    ratios(controller, ACCURACY), ratios(controller, np.zeros_like(ACCURACY))
  )


def test_cosine_follows_its_equation():
  controller = controllers.cosine(
    keep_min=0.2, keep_max=0.8, period=10, decide_every=3
  )
  n = np.arange(1, 201) // 3
  expected = 0.2 + 0.6 * (1 + np.cos(2 * np.pi * n / 10)) / 2
  np.testing.assert_allclose(ratios(controller, ACCURACY), expected, atol=1e-6)


def test_random_ratios_are_uniform_in_their_logarithm():
  drawn = ratios(controllers.random_ratio(keep_min=0.05), np.zeros(2000))
  u = np.log(drawn) / np.log(0.05)
  # The mean of 2,000 uniform draws has a standard deviation of 0.0065.
  assert abs(u.mean() - 0.5) < 0.03
  assert abs(u.std() - 12**-0.5) < 0.02
  other = ratios(
    controllers.random_ratio(keep_min=0.05, draw_seed=1), np.zeros(50)
  )
  assert not np.isclose(other, drawn[:50]).any()


def test_random_ratios_of_given_quantiles():
  quantiles = (0.2, 0.3, 0.9, 1.0, 1.0)
  controller = controllers.random_ratio(quantiles=quantiles)
  drawn = ratios(controller, np.zeros(4000))
  got = np.quantile(drawn, np.linspace(0, 1, 5))
  np.testing.assert_allclose(got, quantiles, atol=0.03)
  assert np.mean(drawn == 1.0) == pytest.approx(0.25, abs=0.03)


def test_a_draw_lasts_until_the_next_decision():
  drawn = ratios(controllers.random_ratio(decide_every=5), np.zeros(24))
  assert (drawn[:4] == 1).all()
  for start in range(4, 19, 5):
    assert len(set(drawn[start : start + 5])) == 1
  assert len(set(drawn[4::5])) == 4


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: controllers.cosine(period=1), "period must be in"),
    (lambda: controllers.cosine(keep_min=0.9, keep_max=0.5), "keep_min must"),
    (lambda: controllers.random_ratio(keep_min=0.0), "keep_min must be in"),
    (lambda: controllers.random_ratio(decide_every=0), "decide_every must"),
    (lambda: controllers.random_ratio(draw_seed=-1), "draw_seed must be in"),
    (lambda: controllers.random_ratio(quantiles=(0.5,)), "at least two"),
    (lambda: controllers.random_ratio(quantiles=(0.5, 0.4)), "do not fall"),
    (lambda: controllers.random_ratio(quantiles=(0.0, 1.0)), "quantiles must"),
  ],
)
def test_bad_arguments_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
