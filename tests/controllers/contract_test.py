"""What every controller must do, whatever its strategy."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes import controllers
from sparse_regimes.runs.makers import CONTROLLERS

STRATEGY = controllers.strategy1(decide_every=2, tighten_pct=0.2)
EVERY = {
  "adaptive": controllers.adaptive(
    decide_every=2, relax_step=0.1, ema_beta=0.5, signal="accuracy"
  ),
  "constant": controllers.constant(0.3),
  "cosine": controllers.cosine(decide_every=2, period=9),
  "gentle": controllers.gentle(decide_every=2, ema_beta=0.5),
  "k_decay": controllers.k_decay(k_decay_steps=50),
  "polynomial": controllers.polynomial(begin=3, end=50, decide_every=2),
  "random_ratio": controllers.random_ratio(decide_every=2),
  "ssd_switch": controllers.ssd_switch(
    check_every=2, sparse_steps=3, similarity=0.7, total_steps=90
  ),
  "strategy1": STRATEGY,
  "strategy2": controllers.strategy2(decide_every=2, tighten_pct=0.2),
  # What is around another.
  "dense_start": controllers.dense_start(STRATEGY, 5),
  "shared": controllers.shared(STRATEGY, (1, 2, 3), every=2),
  "averaged": controllers.averaged(STRATEGY, window=4),
  "shuffled": controllers.shuffled(STRATEGY, window=4),
  "watched": controllers.watched(STRATEGY, patience=3),
}
AROUND = {"averaged", "dense_start", "shared", "shuffled", "watched"}
ACCURACY = np.random.default_rng(0).random(200).astype(np.float32)


def heard(accuracy):
  """What a step tells: of three sites, too, the less active behind."""
  accuracy = jnp.asarray(accuracy)
  one = jnp.ones((), accuracy.dtype)
  stats = jnp.stack([accuracy, accuracy * accuracy, accuracy - accuracy + one])
  return {"accuracy": accuracy, "stats": stats}


def run(controller, accuracy, state=None):
  state = controller.init() if state is None else state
  update = jax.jit(lambda s, a: controller.update(s, **heard(a)))
  states = []
  for a in accuracy:
    state = update(state, a)
    states.append(state)
  return states


def test_every_controller_of_the_factory_is_here():
  assert set(EVERY) - AROUND == set(CONTROLLERS)


@pytest.mark.parametrize("name", EVERY)
def test_update_keeps_tree_shapes_and_dtypes(name):
  controller = EVERY[name]
  state = controller.init()
  for accuracy in (0.5, np.float64(0.5), jnp.bfloat16(0.5), 1):
    chex.assert_trees_all_equal_shapes_and_dtypes(
      state, controller.update(state, **heard(accuracy))
    )
  assert state.keep_ratio.dtype == jnp.float32
  assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_moves_nothing(name, bad):
  controller = EVERY[name]
  state = controller.init()
  chex.assert_trees_all_equal(controller.update(state, **heard(bad)), state)
  state = run(controller, ACCURACY[:7])[-1]
  chex.assert_trees_all_equal(controller.update(state, **heard(bad)), state)


@pytest.mark.parametrize("name", EVERY)
def test_the_budget_stays_in_its_bounds(name):
  ratios = [s.keep_ratio for s in run(EVERY[name], ACCURACY)]
  assert np.all((np.array(ratios) >= 0) & (np.array(ratios) <= 1))


@pytest.mark.parametrize("name", EVERY)
def test_jit_scan_and_vmap_agree(name):
  controller = EVERY[name]
  one_by_one = run(controller, ACCURACY)

  def body(state, accuracy):
    state = controller.update(state, **heard(accuracy))
    return state, state

  _, scanned = jax.lax.scan(body, controller.init(), jnp.asarray(ACCURACY))
  for got, wanted in zip(
    jax.tree.leaves(jax.tree.map(lambda x: x[-1], scanned)),
    jax.tree.leaves(one_by_one[-1]),
    strict=True,
  ):
    # Two programs may round averages otherwise, by the last bit.
    is_whole = not jnp.issubdtype(wanted.dtype, jnp.floating)
    np.testing.assert_allclose(got, wanted, rtol=0 if is_whole else 2e-7)
  two = jax.tree.map(lambda x: jnp.stack([x, x]), controller.init())
  mapped = jax.vmap(lambda s, a: controller.update(s, **heard(a)))(
    two, jnp.array([0.1, 0.9])
  )
  for i, accuracy in enumerate((0.1, 0.9)):
    chex.assert_trees_all_equal(
      jax.tree.map(lambda x, i=i: x[i], mapped),
      controller.update(controller.init(), **heard(accuracy)),
    )


@pytest.mark.parametrize("name", EVERY)
def test_signals_it_does_not_know_are_ignored(name):
  controller = EVERY[name]
  state = controller.init()
  chex.assert_trees_all_equal(
    controller.update(state, **heard(0.5), loss=3.0),
    controller.update(state, **heard(0.5)),
  )


@pytest.mark.parametrize("name", ["gentle", "strategy1", "strategy2"])
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
    "gentle": {
      "keep_init": 1.0,
      "keep_min": 0.2,
      "keep_max": 1.0,
      "tighten_pct": 0.02,
      "relax_step": 0.03,
      "ema_beta": 0.9,
      "drop_tol": 0.01,
      "cooldown": 3,
      "relax_gain": 1.5,
      "max_relax_jump": 0.03,
      "decide_every": 50,
      "best_decay": 0.0,
      "signal": "accuracy",
      "higher_is_better": None,
    },
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
