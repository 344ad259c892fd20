"""A budget shared among sites."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from controllers.contract_test import ACCURACY, run
from hypothesis import strategies as st

from sparse_regimes import controllers
from sparse_regimes.controllers import innermost, share, shared

share = jax.jit(share)


def oracle(total, needs, weights, least):
  """By bisection for the scale, in Python floats."""
  weights = np.asarray(weights) / np.sum(weights)
  low, high = 0.0, 1e9

  def budgets(scale):
    return np.minimum(1, least * total + scale * np.asarray(needs))

  for _ in range(200):
    middle = (low + high) / 2
    low, high = (
      (middle, high) if weights @ budgets(middle) < total else (low, middle)
    )
  return budgets(high)


# Numbers of few digits, so that nothing is lost in float32.
NEED = st.integers(1, 100).map(lambda n: n / 100)


@hypothesis.given(
  st.integers(0, 100),
  st.lists(NEED, min_size=5, max_size=5),
  st.lists(st.integers(1, 20), min_size=5, max_size=5),
  st.integers(0, 10),
)
def test_shares_add_up_to_the_total(percent, needs, weights, tenths):
  total, least = percent / 100, tenths / 10
  sizes = jnp.array(weights, jnp.float32)
  got = np.asarray(
    share(total, jnp.array(needs, jnp.float32), sizes, least=least)
  )
  assert ((got >= 0) & (got <= 1)).all()
  assert np.average(got, weights=weights) == pytest.approx(total, abs=2e-6)
  assert (got >= least * total - 1e-6).all()
  # Who needs more has not less.
  order = np.argsort(needs, kind="stable")
  assert (np.diff(got[order]) > -1e-6).all()
  if 0 < total < 1:
    np.testing.assert_allclose(
      got, oracle(total, needs, weights, least), rtol=0, atol=1e-5
    )
  if total == 1:
    assert (got == 1).all()


def test_a_full_site_is_dense_to_the_last_bit():
  for total in np.linspace(0.5, 0.999, 50):
    got = share(total, jnp.array([1.0, 1e-3, 1e-3]), jnp.ones(3), least=0.1)
    assert got[0] == 1
    assert np.mean(got) == pytest.approx(total, abs=1e-6)


def follow(controller, stats, **signals):
  def body(state, value):
    state = controller.update(state, stats=value, **signals)
    return state, state

  stats = jnp.asarray(stats, jnp.float32)
  return jax.device_get(jax.lax.scan(body, controller.init(), stats)[1])


def test_needs_are_those_of_the_steps_before():
  stats = np.random.default_rng(0).random((12, 3))
  controller = shared(
    controllers.constant(0.3), (1, 2, 1), every=4, strength=0.5, least=0.2
  )
  states = follow(controller, stats)
  np.testing.assert_allclose(states.keep_ratio[:3], 0.3, rtol=1e-6)
  for i in range(3, 12):
    block = (i + 1) // 4 * 4
    active = stats[block - 4 : block].mean(0)
    needs = np.sqrt(active / active.max())
    expected = oracle(0.3, needs, (1, 2, 1), 0.2)
    np.testing.assert_allclose(states.keep_ratio[i], expected, atol=1e-5)


def test_the_total_is_the_controller_s():
  strategy = controllers.strategy1(decide_every=3, tighten_pct=0.2, cooldown=0)
  controller = shared(strategy, (3, 1, 2), every=5)
  states = run(controllers.watched(controller), ACCURACY)
  alone = run(strategy, ACCURACY)
  for state, expected in zip(states, alone, strict=True):
    assert state.total == expected.keep_ratio == innermost(state).keep_ratio
    assert np.average(state.keep_ratio, weights=(3, 1, 2)) == pytest.approx(
      float(expected.keep_ratio), abs=1e-5
    )
  assert len({float(s.total) for s in states}) >= 3
  # Dense again at a reset, all of them.
  dense = [s for s in states if s.total == 1]
  assert all((s.keep_ratio == 1).all() for s in dense)
  assert len(dense) > 5


def test_sharing_anew_is_no_reset():
  stats = np.random.default_rng(1).random((40, 3))
  controller = controllers.watched(
    shared(controllers.constant(0.4), (5, 1, 1), every=1),
    signal="loss",
    drop_tol=0,
    ema_beta=0.0,
    patience=1,
  )
  states = follow(controller, stats, loss=1.0)
  assert np.std(states.controller.keep_ratio.mean(1)) > 0.01
  assert (states.since_reset == -1).all()


def test_a_site_that_is_silent_leaves_its_budget_to_others():
  natural = np.array([0.1, 1.0])
  controller = shared(controllers.constant(0.5), (1, 1), every=1, strength=1)
  state = controller.init()
  for _ in range(20):
    stats = jnp.minimum(state.keep_ratio, jnp.array(natural, jnp.float32))
    state = controller.update(state, stats=stats)
  assert 0.05 < state.keep_ratio[0] < 0.2
  assert jnp.mean(state.keep_ratio) == pytest.approx(0.5, abs=1e-6)


def test_below_full_strength_sites_that_use_all_become_equal():
  controller = shared(controllers.constant(0.2), (1, 1), every=1, strength=0.5)
  state = controller.update(controller.init(), stats=jnp.array([0.02, 0.3]))
  assert state.keep_ratio[1] > 2 * state.keep_ratio[0]
  for _ in range(20):
    state = controller.update(state, stats=state.keep_ratio)
  np.testing.assert_allclose(state.keep_ratio, 0.2, rtol=1e-3)


def test_equal_needs_are_equal_shares():
  for stats in (np.zeros((4, 3)), np.full((4, 3), 0.3), -np.ones((4, 3))):
    controller = shared(controllers.constant(0.3), (1, 5, 2), every=1)
    np.testing.assert_allclose(
      follow(controller, stats).keep_ratio, 0.3, rtol=1e-5
    )
  uneven = np.random.default_rng(0).random((4, 3))
  none = shared(controllers.constant(0.3), (1, 5, 2), every=1, strength=0)
  np.testing.assert_allclose(follow(none, uneven).keep_ratio, 0.3, rtol=1e-5)


def test_what_does_not_fit_is_said():
  controller = shared(controllers.constant(0.5), (1, 1))
  state = controller.init()
  with pytest.raises(ValueError, match="shared's signal 'stats' did not come"):
    controller.update(state, accuracy=0.5)
  with pytest.raises(ValueError, match=r"each of 2 sites, got \(3,\)"):
    controller.update(state, stats=jnp.ones(3))
  with pytest.raises(ValueError, match=r"each of 2 sites, got \{'a': "):
    controller.update(state, stats={"a": 0.1, "b": 0.2})
  with pytest.raises(ValueError, match=r"controller must have one budget to"):
    shared(controllers.constant((0.5, 0.1)), (1, 1))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"weights": ()}, "weights must have an entry for each site"),
    ({"weights": (1, 0)}, "weights must be at least"),
    ({"weights": (1, float("nan"))}, "weights must be at least"),
    ({"every": 0}, "every must be in"),
    ({"strength": 1.5}, r"strength must be in \[0, 1\], got 1.5"),
    ({"least": -1}, "least must be in"),
  ],
)
def test_bad_values_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    shared(controllers.constant(0.5), **{"weights": (1, 1)} | arguments)
