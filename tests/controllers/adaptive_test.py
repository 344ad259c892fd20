import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes.controllers import adaptive


def trace(controller, loss):
  def body(state, value):
    state = controller.update(state, loss=value)
    return state, state

  loss = jnp.asarray(loss, jnp.float32)
  _, states = jax.lax.scan(body, controller.init(), loss)
  return jax.device_get(states)


def oracle(
  loss,
  *,
  keep_min=0.1,
  keep_max=1.0,
  tighten_step=0.05,
  relax_step=0.0,
  ema_beta=0.9,
  drop_tol=0.1,
  patience=1,
  decide_every=128,
  best_decay=0.0,
):
  """The definition, word by word, in Python floats."""
  keep, within, ratios, withins = 1.0, 0, [], []
  ema = best = None
  for i, value in enumerate(loss, start=1):
    ema = value if ema is None else ema_beta * ema + (1 - ema_beta) * value
    best = ema if best is None else min(best, ema)
    if i % decide_every == 0:
      if ema - best <= drop_tol:
        within += 1
        if within == patience:
          keep, within = max(keep_min, keep - tighten_step), 0
      else:
        within, keep = 0, min(keep_max, keep + relax_step)
      best += best_decay * (ema - best)
    ratios.append(keep)
    withins.append(within)
  return np.array(ratios), np.array(withins)


@pytest.mark.parametrize(
  "arguments",
  [
    {"decide_every": 1},
    {"decide_every": 7, "relax_step": 0.2, "patience": 3},
    {"decide_every": 3, "relax_step": 0.03, "keep_max": 1.0, "keep_min": 0.4},
    {"decide_every": 2, "relax_step": 0.5, "best_decay": 0.3, "ema_beta": 0.0},
  ],
)
def test_follows_its_definition(arguments):
  rng = np.random.default_rng(2)
  time = np.arange(600)
  loss = 2 + 0.3 * np.sin(time / 30) + 0.05 * rng.normal(size=600)
  states = trace(adaptive(**arguments), loss)
  ratios, within = oracle(loss, **arguments)
  np.testing.assert_allclose(states.keep_ratio, ratios, rtol=0, atol=1e-5)
  np.testing.assert_array_equal(states.within, within)
  assert len(set(ratios)) > 4


def test_it_holds_or_falls_back():
  loss = [2.0] * 4 + [3.0] * 4
  holds = trace(adaptive(decide_every=1, ema_beta=0.0), loss).keep_ratio
  np.testing.assert_allclose(holds, [0.95, 0.9, 0.85, *[0.8] * 5], rtol=1e-6)
  back = adaptive(decide_every=1, ema_beta=0.0, relax_step=0.15)
  np.testing.assert_allclose(
    trace(back, loss).keep_ratio[3:], [0.8, 0.95, 1, 1, 1], rtol=1e-6
  )


def test_it_stops_at_the_target():
  controller = adaptive(decide_every=1, keep_min=0.3, tighten_step=0.25)
  ratios = trace(controller, [1.0] * 5).keep_ratio
  np.testing.assert_allclose(ratios, [0.75, 0.5, 0.3, 0.3, 0.3], rtol=1e-6)


def test_of_accuracy_more_is_better():
  controller = adaptive(
    signal="accuracy", decide_every=1, drop_tol=0.1, ema_beta=0.0
  )
  state = controller.update(controller.init(), accuracy=0.5)
  state = controller.update(state, accuracy=0.9)
  held = controller.update(state, accuracy=0.5)
  np.testing.assert_allclose([state.keep_ratio, held.keep_ratio], 0.9)


def test_traced_numbers_are_those_that_are_not():
  loss = np.random.default_rng(0).random(40)

  def ratios(drop_tol, tighten_step, patience):
    controller = adaptive(
      drop_tol=drop_tol,
      tighten_step=tighten_step,
      patience=patience,
      relax_step=0.1,
      decide_every=2,
    )
    return trace(controller, loss).keep_ratio

  def traced(*arguments):
    controller = adaptive(
      **dict(zip(("drop_tol", "tighten_step"), arguments, strict=False)),
      patience=arguments[2],
      relax_step=0.1,
      decide_every=2,
    )

    def body(state, value):
      state = controller.update(state, loss=value)
      return state, state.keep_ratio

    values = jnp.asarray(loss, jnp.float32)
    return jax.lax.scan(body, controller.init(), values)[1]

  mapped = jax.vmap(traced)(
    jnp.array([0.05, 0.2]), jnp.array([0.1, 0.03]), jnp.array([1, 3])
  )
  np.testing.assert_allclose(mapped[0], ratios(0.05, 0.1, 1), rtol=1e-5)
  np.testing.assert_allclose(mapped[1], ratios(0.2, 0.03, 3), rtol=1e-5)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"tighten_step": 1.5}, r"tighten_step must be in \[0, 1\], got 1.5"),
    ({"relax_step": -1}, "relax_step must be at least 0"),
    ({"patience": 0}, "patience must be in"),
    ({"drop_tol": -0.1}, "drop_tol must be at least 0"),
    ({"signal": "accuracy", "drop_tol": 2}, r"drop_tol must be in \[0, 1\]"),
    ({"keep_min": 0.6, "keep_max": 0.5}, "keep_min must be at most keep_max"),
    ({"keep_init": float("nan")}, "keep_init must be in"),
    ({"ema_beta": 1.0}, "ema_beta must be in"),
    ({"best_decay": 2}, "best_decay must be in"),
    ({"decide_every": 0}, "decide_every must be in"),
  ],
)
def test_bad_values_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    adaptive(**arguments)
