from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from controllers.contract_test import ACCURACY, STRATEGY, run

from sparse_regimes import controllers
from sparse_regimes.controllers import innermost


class Drawing(NamedTuple):
  keep_ratio: jax.Array
  key: jax.Array


def test_then_it_is_the_controller_as_if_begun_there():
  states = run(controllers.dense_start(STRATEGY, 30), ACCURACY)
  assert all(s.keep_ratio == 1 for s in states[:30])
  later = run(STRATEGY, ACCURACY[30:])
  for state, expected in zip(states[30:], later, strict=True):
    chex.assert_trees_all_equal(state.controller, expected)
    assert state.keep_ratio == expected.keep_ratio


def test_the_first_batches_are_dense():
  controller = controllers.dense_start(controllers.constant(0.2), 3)
  ratios = [controller.init().keep_ratio]
  ratios += [s.keep_ratio for s in run(controller, ACCURACY[:4])]
  np.testing.assert_allclose(ratios, [1, 1, 1, 0.2, 0.2])
  by_site = controllers.dense_start(controllers.constant((0.5, 0.1)), 1)
  state = by_site.init()
  np.testing.assert_array_equal(state.keep_ratio, [1, 1])
  state = by_site.update(state, loss=1.0)
  np.testing.assert_allclose(state.keep_ratio, [0.5, 0.1])


def test_none_is_the_controller():
  states = run(controllers.dense_start(STRATEGY, 0), ACCURACY)
  chex.assert_trees_all_equal(
    states[-1].controller, run(STRATEGY, ACCURACY)[-1]
  )


def test_a_skipped_step_is_none():
  controller = controllers.dense_start(STRATEGY, 2)
  state = controller.init()
  for loss, accuracy, left in (
    (jnp.nan, jnp.nan, 2),
    # A return of no episode says nothing of the step.
    (1.0, jnp.nan, 1),
    (1.0, 0.5, 0),
    (jnp.inf, jnp.nan, 0),
  ):
    state = controller.update(state, loss=loss, accuracy=accuracy)
    assert state.left == left
  assert controller.update(controller.init(), accuracy=0.1).left == 1


def test_what_the_controller_misses_is_said_at_once():
  controller = controllers.dense_start(STRATEGY, 5)
  with pytest.raises(ValueError, match="'accuracy' did not come"):
    controller.update(controller.init(), loss=1.0)


def test_around_others_and_in_others():
  controller = controllers.watched(
    controllers.dense_start(controllers.shuffled(STRATEGY, window=4), 3)
  )
  states = run(controller, ACCURACY[:8])
  assert innermost(states[2]).num_batches == 0
  assert innermost(states[-1]).num_batches == 5
  assert states[2].total == 1


def test_a_controller_may_carry_a_key():
  keyed = controllers.guarded(
    lambda: Drawing(0.5, jax.random.key(0)),
    lambda state, **_: Drawing(0.5, jax.random.split(state.key)[0]),
  )
  waiting = controllers.dense_start(keyed, 1)
  state = waiting.update(waiting.init(), loss=1.0)
  assert state.controller.key == jax.random.key(0)
  assert waiting.update(state, loss=1.0).controller.key != jax.random.key(0)


@pytest.mark.parametrize("steps", [-1, float("nan"), 2**31])
def test_bad_steps_are_named(steps):
  with pytest.raises(ValueError, match="steps must be in"):
    controllers.dense_start(STRATEGY, steps)
