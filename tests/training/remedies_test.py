"""What a run can do against a collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import tiny_batch, tiny_setup

from sparse_regimes import controllers
from sparse_regimes.controllers.watched import WatchedState
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.training import projections
from sparse_regimes.training.optimizer import (
  learning_rate_of,
  rollback,
  sgd,
  warm_restarts,
)


def signal(*, keep_ratio=1.0, collapsed=False, survived=False):
  state = controllers.watched(controllers.constant(keep_ratio)).init()
  return state._replace(
    collapsed=jnp.array(collapsed), survived=jnp.array(survived)
  )


def step(tx, params, state, grad, **signals):
  assert isinstance(signal(**signals), WatchedState)
  updates, state = jax.jit(tx.update)(
    jnp.array([grad]), state, params, controller_state=signal(**signals)
  )
  return optax.apply_updates(params, updates), state


def test_rollback_goes_back_to_the_last_healthy_reset_once():
  tx = rollback(sgd(1.0, momentum=0.5, nesterov=False))
  params = jnp.array([0.0])
  state = tx.init(params)
  params, state = step(tx, params, state, -1.0)
  good, momentum = params, state.inner
  params, state = step(tx, params, state, -1.0, survived=True)
  for _ in range(3):
    params, state = step(tx, params, state, -5.0)
  params, state = step(tx, params, state, -5.0, collapsed=True)
  np.testing.assert_allclose(params, good, atol=1e-6)
  np.testing.assert_array_equal(
    jax.tree.leaves(state.inner)[0], jax.tree.leaves(momentum)[0]
  )
  # The collapse is still seen, but training goes on.
  after, state = step(tx, params, state, -1.0, collapsed=True)
  np.testing.assert_allclose(after - params, 1.5, atol=1e-6)
  _, state = step(tx, after, state, -1.0)
  again, _ = step(tx, after, state, -1.0, collapsed=True)
  np.testing.assert_allclose(again, good, atol=1e-6)


def test_a_rollback_wants_a_watched_controller():
  tx = rollback(sgd(1.0))
  params = {"w": jnp.ones(2)}
  unwatched = controllers.constant(1.0)
  with pytest.raises(ValueError, match="must be that of controllers"):
    tx.update(
      params,
      tx.init(params),
      params,
      controller_state=unwatched.init(),
    )


def test_a_rollback_goes_with_projections():
  params = {
    "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
    "bias": {"zeroth_bias": jnp.zeros((1, 2))},
  }
  tx = optax.chain(
    rollback(sgd(1.0, momentum=0.0, nesterov=False)),
    # The floor rises while the run goes on.
    projections.restricted_scale(("norm/scale",), uplift_steps=4),
    projections.frozen(("norm/bias",)),
    projections.zeroth_bias(c=0.1),
  )
  params["norm"]["scale"] = jnp.full(2, 0.1)
  state = tx.init(params)
  grads = jax.tree.map(jnp.ones_like, params)
  for i in range(4):
    updates, state = tx.update(
      grads,
      state,
      params,
      controller_state=signal(survived=i == 0, collapsed=i == 3),
    )
    params = optax.apply_updates(params, updates)
  # It went back to 0.1, which is too little by now.
  np.testing.assert_array_equal(params["norm"]["scale"], 1.0)
  np.testing.assert_array_equal(params["norm"]["bias"], 1.0)
  np.testing.assert_allclose(params["bias"]["zeroth_bias"], 0.0)


def test_a_rollback_does_not_set_the_schedule_back():
  tx = rollback(sgd(lambda step: 1.0 - step / 10, momentum=0.0))
  params = jnp.array([0.0])
  state = tx.init(params)
  for i in range(6):
    before = params
    params, state = step(
      tx, params, state, -1.0, survived=i == 1, collapsed=i == 4
    )
  assert (params - before)[0] == pytest.approx(0.5)


def test_rates_begin_anew_when_the_budget_rises():
  schedule = lambda s: 1.0 - s / 10  # noqa: E731
  tx = optax.chain(sgd(1.0, momentum=0.0), warm_restarts(schedule, 10))
  params, state = jnp.array([0.0]), None
  state = tx.init(params)
  rates = []
  for keep_ratio in (1.0, 0.9, 0.8, 0.7, 1.0, 0.9, 0.8, 0.7, 0.7, 0.7):
    before = params
    params, state = step(tx, params, state, -1.0, keep_ratio=keep_ratio)
    rates.append(float((params - before)[0]))
    used = optax.tree_utils.tree_get(state, "learning_rate")
    assert used == pytest.approx(rates[-1], abs=1e-5)
  # Six steps are left at the restart: 10/6 of the schedule a step, rounded.
  expected = [1.0, 0.9, 0.8, 0.7, 1.0, 0.8, 0.7, 0.5, 0.3, 0.2]
  np.testing.assert_allclose(rates, expected, atol=1e-5)


def test_without_a_reset_a_restarting_schedule_is_the_schedule():
  config = configs.load("wrn_strategy1")
  schedule = factory.make_schedule(config, steps_per_epoch=390)
  tx = warm_restarts(schedule, 500 * 390)
  for at in (0, 389, 390, 194_999):
    state = tx.init(None)._replace(step=jnp.array(at), keep_ratio=jnp.ones(()))
    _, state = tx.update(jnp.ones(1), state, controller_state=signal())
    assert state.learning_rate == schedule(at)


def test_the_whole_gradient_is_clipped():
  config = configs.load("smoke", ["optimizer.clip_norm=0.5"])
  tx = factory.make_optimizer(config, lambda _: 1.0, None, steps_per_epoch=1)
  grads = {"a": jnp.array([30.0]), "b": jnp.array([40.0])}
  updates, _ = tx.update(grads, tx.init(grads), grads)
  # Nesterov: the first update is 1.9 times the gradient.
  norm = np.hypot(updates["a"][0], updates["b"][0])
  np.testing.assert_allclose(norm, 0.95, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  "override",
  [
    "optimizer.rollback=True",
    "optimizer.restart_at_resets=True",
    "optimizer.clip_norm=1.0",
    "signal.shuffle_window=7",
    "optimizer.clip_norm=1.0 optimizer.rollback=True"
    " optimizer.restart_at_resets=True",
  ],
)
def test_every_remedy_runs_in_the_step(override):
  config = configs.load(
    "smoke",
    [*override.split(), "optimizer.weight_decay=0.1", "train.epochs=2"],
  )
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=2)
  _, state, train_step = tiny_setup(parts.controller, parts.tx)
  before = jax.tree.map(jnp.copy, state.params)
  shapes = jax.eval_shape(lambda s: s, state)
  for _ in range(4):
    state, metrics = train_step(state, tiny_batch())
    assert metrics["skipped"] == 0
  assert jax.eval_shape(lambda s: s, state) == shapes
  rate = learning_rate_of(state.opt_state)
  assert (rate is None) == ("restart" not in override)
  changed = jax.tree.map(
    lambda a, b: bool((a != b).any()), before, state.params
  )
  assert any(jax.tree.leaves(changed))
