"""Controllers that follow other signals than accuracy, or several budgets."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import TINY_RUN

import sparse_regimes as sr
from sparse_regimes import controllers
from sparse_regimes.main import main

STRATEGIES = {
  "strategy1": lambda **a: controllers.strategy1(cooldown=0, **a),
  "strategy2": lambda **a: controllers.strategy2(patience=1, **a),
}


def ratios(controller, values, signal):
  state, seen = controller.init(), []
  for value in values:
    state = controller.update(state, **{signal: value, "other": 0.1})
    seen.append(float(jnp.mean(state.keep_ratio)))
  return np.array(seen)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_loss_that_rises_is_an_accuracy_that_falls(name):
  arguments = {"decide_every": 2, "drop_tol": 0.3, "tighten_pct": 0.2}
  accuracy = np.random.default_rng(0).random(40).astype(np.float32)
  expected = ratios(STRATEGIES[name](**arguments), accuracy, "accuracy")
  assert len(set(expected)) > 3
  by_loss = STRATEGIES[name](signal="loss", **arguments)
  np.testing.assert_allclose(
    ratios(by_loss, 1 - accuracy, "loss"), expected, rtol=1e-6
  )
  by_error = STRATEGIES[name](
    signal="error", higher_is_better=False, **arguments
  )
  np.testing.assert_allclose(
    ratios(by_error, 1 - accuracy, "error"), expected, rtol=1e-6
  )
  by_return = STRATEGIES[name](signal="return", **arguments | {"drop_tol": 300})
  np.testing.assert_allclose(
    ratios(by_return, 1000 * accuracy, "return"), expected, rtol=1e-6
  )


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_average_is_the_signal_s_own(name):
  controller = STRATEGIES[name](signal="loss", drop_tol=5, decide_every=1)
  state = controller.init()
  for loss in (4.0, 2.0, 6.0):
    state = controller.update(state, loss=loss)
  assert state.ema == 4.5  # 4, 3, 4.5
  assert state.best_ema == 3.0


@pytest.mark.parametrize("name", STRATEGIES)
def test_tolerances_have_the_range_of_their_signal(name):
  make = STRATEGIES[name]
  make(signal="loss", drop_tol=7.5)
  with pytest.raises(ValueError, match=r"drop_tol must be in \[0, 1\]"):
    make(drop_tol=7.5)
  with pytest.raises(ValueError, match="drop_tol must be at least 0 and"):
    make(signal="loss", drop_tol=-1)


@pytest.mark.parametrize("around", ["averaged", "watched", "shuffled"])
def test_controllers_around_others_hand_all_signals_on(around):
  inner = controllers.strategy1(
    signal="loss", drop_tol=1, decide_every=1, tighten_pct=0.5
  )
  controller = {
    "averaged": lambda: controllers.averaged(inner, window=1, signal="loss"),
    "watched": lambda: controllers.watched(inner),
    "shuffled": lambda: controllers.shuffled(inner, window=4),
  }[around]()
  state = controller.update(controller.init(), accuracy=0.1, loss=3.0)
  assert state.controller.ema == 3.0
  assert state.keep_ratio == 0.5


def test_a_collapse_is_seen_in_any_signal():
  controller = controllers.watched(
    controllers.strategy1(
      signal="loss", drop_tol=1, decide_every=1, cooldown=0
    ),
    signal="loss",
    drop_tol=1,
    patience=2,
    ema_beta=0.0,
  )
  state, collapsed = controller.init(), []
  for loss in (1.0, 9.0, 9.0, 9.0, 1.0):
    state = controller.update(state, loss=loss)
    collapsed.append(bool(state.collapsed))
  assert collapsed == [False, False, False, True, False]


def test_a_decision_hears_the_mean_of_the_batches_since_the_last_one():
  inner = controllers.strategy1(decide_every=3, ema_beta=0.0)
  controller = controllers.averaged(inner, window=3)
  state, heard = controller.init(), []
  for accuracy in (0.1, 0.2, 0.6, jnp.nan, 0.9, 0.9, 0.0):
    state = controller.update(state, accuracy=accuracy)
    heard.append(float(state.controller.ema))
  np.testing.assert_allclose(heard[2], 0.3, rtol=1e-6)
  # The three after it, but for the one that was none.
  np.testing.assert_allclose(heard[-1], 0.6, rtol=1e-6)


def test_a_shuffled_signal_is_the_one_that_is_named():
  controller = controllers.shuffled(
    controllers.strategy1(signal="loss", drop_tol=1), window=3, signal="loss"
  )
  state = controller.init()
  for loss in (5.0, 6.0, 7.0):
    state = controller.update(state, loss=loss)
  assert sorted(state.recent.tolist()) == [5, 6, 7]


class Budget(NamedTuple):
  keep_ratio: jax.Array
  steps: jax.Array


def guarded(update):
  return controllers.guarded(lambda: Budget(jnp.ones(()), jnp.int32(0)), update)


def test_guarded_holds_still_for_what_it_hears_alone():
  by_loss = guarded(
    lambda state, *, loss, accuracy=1.0: Budget(
      state.keep_ratio * 0.5, state.steps + 1
    )
  )
  assert isinstance(by_loss, sr.Controller)
  state = by_loss.init()
  moved = by_loss.update(state, loss=1.0, elbo=jnp.nan)
  assert moved.keep_ratio == 0.5
  for bad in ({"loss": jnp.nan}, {"loss": 1.0, "accuracy": jnp.inf}):
    chex.assert_trees_all_equal(by_loss.update(state, **bad), state)
  chex.assert_trees_all_equal_shapes_and_dtypes(moved, state)
  of_all = guarded(
    lambda state, **signals: Budget(state.keep_ratio * 0.5, state.steps + 1)
  )
  assert of_all.update(state, a=1, b=jnp.ones(3)).steps == 1
  assert of_all.update(state, a=1, b=jnp.array([0, jnp.nan])).steps == 0
  with pytest.raises(ValueError, match="'loss' did not come, these did: elbo"):
    by_loss.update(state, elbo=1.0)
  with pytest.raises(ValueError, match="these did: none"):
    controllers.strategy2().update(controllers.strategy2().init())


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_traced_numbers_are_those_that_are_not(name):
  defaults = {
    "keep_init": 0.9,
    "keep_min": 0.1,
    "keep_max": 0.95,
    "tighten_pct": 0.3,
    "ema_beta": 0.4,
    "drop_tol": 0.2,
    "best_decay": 0.1,
  }
  accuracy = np.random.default_rng(1).random(30).astype(np.float32)

  def run(arguments):
    controller = STRATEGIES[name](decide_every=2, **arguments)

    def body(state, value):
      state = controller.update(state, accuracy=value)
      return state, state.keep_ratio

    return jax.lax.scan(body, controller.init(), jnp.asarray(accuracy))[1]

  one, other = defaults, defaults | {"drop_tol": 0.5, "tighten_pct": 0.1}
  both = jax.tree.map(lambda *x: jnp.array(x, jnp.float32), one, other)
  mapped = jax.jit(jax.vmap(run))(both)
  for row, arguments in zip(mapped, (one, other), strict=True):
    np.testing.assert_allclose(row, run(arguments), rtol=1e-5)
  assert np.any(mapped[0] != mapped[1])


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_site_may_have_its_own_budget(name):
  budgets = jnp.array([1.0, 0.5, 0.2])
  controller = STRATEGIES[name](
    keep_init=budgets, keep_max=budgets, decide_every=1, tighten_pct=0.5
  )
  state = controller.update(controller.init(), accuracy=0.9)
  np.testing.assert_allclose(state.keep_ratio, budgets / 2)
  reset = controller.update(state, accuracy=0.0)
  np.testing.assert_allclose(reset.keep_ratio, budgets)
  with pytest.raises(ValueError, match=r"keep_init must be in \[keep_min, kee"):
    STRATEGIES[name](keep_init=budgets, keep_max=0.9)
  with pytest.raises(ValueError, match=r"keep_max must be in \[0, 1\], got 2"):
    STRATEGIES[name](keep_max=jnp.array([1.0, 2.0]))


def test_a_constant_budget_for_each_site():
  state = controllers.constant((0.5, 0.1)).init()
  np.testing.assert_allclose(state.keep_ratio, [0.5, 0.1])
  with pytest.raises(ValueError, match=r"keep_ratio must be in \[0, 1\]"):
    controllers.constant((0.5, 3.0))


@pytest.mark.parametrize(
  "make",
  [
    lambda b: controllers.strategy1(keep_init=b, decide_every=1),
    lambda b: controllers.strategy1(keep_init=1.0, keep_min=b, decide_every=1),
    lambda b: controllers.strategy2(keep_init=b, decide_every=1),
    lambda b: controllers.strategy2(keep_max=1.0, keep_min=b, decide_every=1),
    lambda b: controllers.cosine(keep_min=b, decide_every=1),
    lambda b: controllers.random_ratio(keep_min=b),
    lambda b: controllers.gentle(keep_init=b, keep_min=0.0, decide_every=1),
    lambda b: controllers.adaptive(
      keep_min=b, decide_every=1, signal="accuracy"
    ),
    lambda b: controllers.polynomial(keep_final=b, decide_every=1),
    lambda b: controllers.k_decay(keep_init=b),
    lambda b: controllers.ssd_switch(keep_sparse=b, signal="accuracy"),
    lambda b: controllers.dense_start(controllers.constant(b), 3),
    lambda b: controllers.watched(controllers.strategy2(keep_init=b)),
  ],
)
@pytest.mark.parametrize("given", [(0.5, 0.1), np.array([0.5, 0.1])])
def test_budgets_by_site_keep_their_shapes(make, given):
  controller = make(given)
  state = controller.init()
  assert state.keep_ratio.shape == (2,)
  after = controller.update(state, accuracy=0.5)
  chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


def test_random_budgets_with_traced_numbers():
  def draw(keep_min, quantiles):
    budgets = [
      controllers.random_ratio(keep_min=keep_min),
      controllers.random_ratio(keep_min=0.0001, quantiles=tuple(quantiles)),
    ]
    return [c.update(c.init(), loss=1.0).keep_ratio for c in budgets]

  first, second = jax.jit(draw)(0.1, jnp.array([0.2, 0.6]))
  expected = draw(0.1, [0.2, 0.6])
  np.testing.assert_allclose([first, second], expected, rtol=1e-5)


def test_guarded_takes_any_state():
  class Drawing(NamedTuple):
    keep_ratio: jax.Array
    key: jax.Array

  controller = controllers.guarded(
    lambda: Drawing(0.5, jax.random.key(0)),
    lambda state, *args, **signals: Drawing(
      jax.random.uniform(state.key), jax.random.split(state.key)[0]
    ),
  )
  state = controller.init()
  after = controller.update(state, loss=1.0, state=2.0)
  assert after.keep_ratio != state.keep_ratio
  same = controller.update(state, loss=jnp.nan)
  assert jnp.all(same.key == state.key)
  growing = guarded(lambda state, *, loss: Budget(jnp.ones(2), state.steps))
  with pytest.raises(ValueError, match=r"must keep its shapes, got \(2,\) for"):
    growing.update(growing.init(), loss=1.0)


def test_it_says_whose_signal_is_missing():
  controller = controllers.shuffled(by := controllers.strategy2(), window=3)
  for of, one in (("shuffled", controller), ("strategy2", by)):
    with pytest.raises(ValueError, match=f"{of}'s signal 'accuracy' did not"):
      one.update(one.init(), loss=1.0)


OWN = """
from sparse_regimes import controllers


def mine():
  return controllers.strategy1(signal="nll")
"""


@pytest.mark.run
@pytest.mark.parametrize(
  ("override", "told"),
  [
    (
      "controller.signal=nll",
      "controller.signal must be accuracy or loss where task.name is "
      "classification, got nll",
    ),
    # What a controller of a file hears is known when the step is traced.
    ("controller.name={own}:mine", "'nll' did not come, these did: accuracy"),
  ],
)
def test_a_signal_that_never_comes_is_a_line(override, told, tmp_path, capsys):
  (own := tmp_path / "own.py").write_text(OWN)
  with jax.numpy_dtype_promotion("standard"):
    code = main(
      [
        *(f"--config={TINY_RUN}", f"--workdir={tmp_path / 'run'}"),
        f"--config.{override.format(own=own)}",
        "--config.train.num_devices=1",
      ]
    )
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert told in line
