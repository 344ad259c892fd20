"""A collapse is seen, and a control is misled."""

import chex
import jax
import numpy as np
import pytest
from controllers.contract_test import ACCURACY, run

from sparse_regimes import controllers
from sparse_regimes.controllers import innermost

STRATEGY = controllers.strategy1(decide_every=2, tighten_pct=0.2, cooldown=0)


def watch(accuracy, **arguments):
  arguments = {"patience": 3, "ema_beta": 0.0} | arguments
  return run(controllers.watched(STRATEGY, **arguments), accuracy)


def test_watching_changes_no_decision():
  watched = run(controllers.watched(STRATEGY), ACCURACY)[-1]
  chex.assert_trees_all_equal(innermost(watched), run(STRATEGY, ACCURACY)[-1])


def test_collapsed_until_the_accuracy_is_back():
  states = watch([0.9] * 4 + [0.2] * 8 + [0.8] * 2)
  ratios = [float(s.keep_ratio) for s in states]
  reset = next(i for i in range(1, 14) if ratios[i] > ratios[i - 1])
  collapsed = [bool(s.collapsed) for s in states]
  assert reset == 5
  # Three batches after the reset, until 0.8 is back within tolerance of 0.9.
  assert collapsed == [False] * 8 + [True] * 4 + [False] * 2


@pytest.mark.parametrize("decide_every", [1, 10, 21])
@pytest.mark.parametrize("low", [0.1, 0.6, 0.68])
@pytest.mark.parametrize("fall", [100, 104, 109])
def test_a_reset_may_come_before_the_average_has_fallen(
  decide_every, low, fall
):
  strategy = controllers.strategy1(decide_every=decide_every, tighten_pct=0.05)
  states = run(
    controllers.watched(strategy, patience=100), [0.85] * fall + [low] * 150
  )
  ratios = np.array([s.keep_ratio for s in states])
  reset = np.flatnonzero(np.diff(ratios) > 0)[0] + 1
  collapsed = [bool(s.collapsed) for s in states]
  # From 0.85 to 0.68 the average takes twelve batches to fall by 0.12.
  low_at = fall + {0.1: 1, 0.6: 6, 0.68: 11}[low]
  assert abs(collapsed.index(True) - max(reset, low_at) - 100) <= 1
  assert all(collapsed[collapsed.index(True) :])


@pytest.mark.parametrize(
  "controller",
  [
    controllers.cosine(period=6, decide_every=1),
    controllers.random_ratio(),
    controllers.strategy1(decide_every=1, best_decay=0.3, tighten_pct=0.2),
  ],
)
def test_a_rising_budget_is_no_recovery(controller):
  watched = controllers.watched(controller, patience=5, ema_beta=0.0)
  states = run(watched, [0.9] * 10 + [0.1] * 60 + [0.9])
  collapsed = [bool(s.collapsed) for s in states]
  first = collapsed.index(True)
  assert 14 <= first < 40
  assert all(collapsed[first:-1])
  assert not collapsed[-1]


@pytest.mark.parametrize(
  "accuracy",
  [
    [0.9] * 20,
    # Back in time.
    [0.9] * 4 + [0.2] * 3 + [0.9] * 8,
    # Low from the start is not a fall.
    [0.1] * 20,
  ],
)
def test_what_is_no_collapse(accuracy):
  assert not any(s.collapsed for s in watch(accuracy))


def test_without_a_reset_there_is_no_collapse():
  controller = controllers.watched(
    controllers.constant(0.5), patience=1, ema_beta=0.0
  )
  assert not any(s.collapsed for s in run(controller, [0.9] + [0.0] * 9))


def test_resets_that_are_survived_are_marked():
  # Compressed by every second batch; a reset with the sixth, compressed again
  # with the eighth, a reset with the twelfth, after which it stays low.
  states = watch([0.9] * 5 + [0.5] + [0.9] * 5 + [0.2] * 9)
  ratios = [1.0, *(float(s.keep_ratio) for s in states)]
  moves = np.sign(np.diff(ratios)).tolist()
  assert moves == [0, -1, 0, -1, 0, 1, 0, -1, 0, -1, 0, 1, *[0] * 8]
  survived = [bool(s.survived) for s in states]
  assert [i + 1 for i, s in enumerate(survived) if s] == [2, 8]


def test_a_decaying_best_comes_down_to_what_is_reached():
  for make in (controllers.strategy1, controllers.strategy2):
    states = run(
      make(decide_every=2, best_decay=0.5, ema_beta=0.0), [0.8] + [0.4] * 7
    )
    best = [float(s.best_ema) for s in states]
    np.testing.assert_allclose(
      best, [0.8, 0.6, 0.6, 0.5, 0.5, 0.45, 0.45, 0.425], rtol=1e-6
    )


def test_shuffled_accuracies_are_those_of_the_window():
  controller = controllers.shuffled(
    controllers.strategy1(ema_beta=0.0), window=8, draw_seed=3
  )
  heard = [float(s.controller.ema) for s in run(controller, ACCURACY)]
  for i, accuracy in enumerate(heard):
    assert accuracy in ACCURACY[max(0, i - 7) : i + 1]
  assert np.mean(np.array(heard) == ACCURACY) < 0.3
  # The same draws again, others for another seed.
  assert heard == [float(s.controller.ema) for s in run(controller, ACCURACY)]
  other = controllers.shuffled(
    controllers.strategy1(ema_beta=0.0), window=8, draw_seed=4
  )
  assert heard != [float(s.controller.ema) for s in run(other, ACCURACY)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_moves_nothing(bad):
  controller = controllers.watched(controllers.shuffled(STRATEGY, window=4))
  state = run(controller, ACCURACY[:7])[-1]
  after = jax.jit(lambda s: controller.update(s, accuracy=bad))(state)
  chex.assert_trees_all_equal(after, state)
  chex.assert_trees_all_equal_shapes_and_dtypes(after, controller.init())


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: controllers.watched(STRATEGY, patience=0), "patience must be"),
    (lambda: controllers.watched(STRATEGY, drop_tol=2), "drop_tol must be"),
    (lambda: controllers.watched(STRATEGY, ema_beta=1), "ema_beta must be"),
    (lambda: controllers.shuffled(STRATEGY, window=0), "window must be"),
    (lambda: controllers.strategy1(best_decay=-1), "best_decay must be"),
    (lambda: controllers.strategy2(best_decay=1.5), "best_decay must be"),
  ],
)
def test_bad_arguments_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
