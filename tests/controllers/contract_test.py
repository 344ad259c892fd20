"""What every controller must do, whatever its strategy."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes import controllers
from sparse_regimes.runs.makers import CONTROLLERS

EVERY = {
  "constant": controllers.constant(0.3),
  "cosine": controllers.cosine(decide_every=2, period=9),
  "random_ratio": controllers.random_ratio(decide_every=2),
  "strategy1": controllers.strategy1(decide_every=2, tighten_pct=0.2),
  "strategy2": controllers.strategy2(decide_every=2, tighten_pct=0.2),
}
ACCURACY = np.random.default_rng(0).random(200).astype(np.float32)


def run(controller, accuracy, state=None):
  state = controller.init() if state is None else state
  update = jax.jit(lambda s, a: controller.update(s, accuracy=a))
  states = []
  for a in accuracy:
    state = update(state, a)
    states.append(state)
  return states


def test_every_controller_of_the_factory_is_here():
  assert set(EVERY) == set(CONTROLLERS)


@pytest.mark.parametrize("name", EVERY)
def test_update_keeps_tree_shapes_and_dtypes(name):
  controller = EVERY[name]
  state = controller.init()
  for accuracy in (0.5, np.float64(0.5), jnp.bfloat16(0.5), 1):
    chex.assert_trees_all_equal_shapes_and_dtypes(
      state, controller.update(state, accuracy=accuracy)
    )
  assert state.keep_ratio.dtype == jnp.float32
  assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_moves_nothing(name, bad):
  controller = EVERY[name]
  state = controller.init()
  chex.assert_trees_all_equal(controller.update(state, accuracy=bad), state)
  state = run(controller, ACCURACY[:7])[-1]
  chex.assert_trees_all_equal(controller.update(state, accuracy=bad), state)


@pytest.mark.parametrize("name", EVERY)
def test_the_budget_stays_in_its_bounds(name):
  ratios = [s.keep_ratio for s in run(EVERY[name], ACCURACY)]
  assert all(0 <= r <= 1 for r in ratios)


@pytest.mark.parametrize("name", EVERY)
def test_jit_scan_and_vmap_agree(name):
  controller = EVERY[name]
  one_by_one = run(controller, ACCURACY)

  def body(state, accuracy):
    state = controller.update(state, accuracy=accuracy)
    return state, state

  _, scanned = jax.lax.scan(body, controller.init(), jnp.asarray(ACCURACY))
  chex.assert_trees_all_equal(
    jax.tree.map(lambda x: x[-1], scanned), one_by_one[-1]
  )
  two = jax.tree.map(lambda x: jnp.stack([x, x]), controller.init())
  mapped = jax.vmap(lambda s, a: controller.update(s, accuracy=a))(
    two, jnp.array([0.1, 0.9])
  )
  for i, accuracy in enumerate((0.1, 0.9)):
    chex.assert_trees_all_equal(
      jax.tree.map(lambda x, i=i: x[i], mapped),
      controller.update(controller.init(), accuracy=accuracy),
    )


@pytest.mark.parametrize("name", EVERY)
def test_signals_it_does_not_know_are_ignored(name):
  controller = EVERY[name]
  state = controller.init()
  chex.assert_trees_all_equal(
    controller.update(state, accuracy=0.5, loss=3.0),
    controller.update(state, accuracy=0.5),
  )


@pytest.mark.parametrize("name", ["strategy1", "strategy2"])
@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"keep_min": -0.1}, r"keep_min must be in \[0, 1\], got -0.1"),
    ({"keep_max": 1.5}, r"keep_max must be in \[0, 1\], got 1.5"),
    ({"keep_min": 0.6, "keep_max": 0.5}, "keep_min must be at most keep_max"),
    ({"keep_init": float("nan")}, "keep_init must be in"),
    ({"tighten_pct": 1.0}, r"tighten_pct must be in \[0, 1\), got 1.0"),
    ({"ema_beta": 1.0}, r"ema_beta must be in \[0, 1\)"),
    ({"drop_tol": -1.0}, "drop_tol must be in"),
    ({"decide_every": 0}, r"decide_every must be in \[1, 2147483647\], got 0"),
  ],
)
def test_bad_values_are_named(name, arguments, message):
  with pytest.raises(ValueError, match=message):
    CONTROLLERS[name](**arguments)


def test_defaults_are_the_documented_ones():
  expected = {
    "strategy1": {
      "keep_init": 1.0,
      "keep_min": 0.0,
      "keep_max": 1.0,
      "tighten_pct": 0.018,
      "relax_step": 1.0,
      "ema_beta": 0.5,
      "drop_tol": 0.12,
      "cooldown": 3,
      "relax_gain": 1.5,
      "max_relax_jump": 1.0,
      "decide_every": 128,
      "best_decay": 0.0,  # not the paper's; off
      "signal": "accuracy",
      "higher_is_better": None,
    },
    "strategy2": {
      "keep_init": 1.0,
      "keep_min": 0.02,
      "keep_max": 1.0,
      "tighten_pct": 0.018,
      "ema_beta": 0.5,
      "drop_tol": 0.12,
      "patience": 3,
      "decide_every": 128,
      "best_decay": 0.0,  # not the paper's; off
      "signal": "accuracy",
      "higher_is_better": None,
    },
  }
  for name, defaults in expected.items():
    parameters = inspect.signature(CONTROLLERS[name]).parameters
    assert {n: p.default for n, p in parameters.items()} == defaults
