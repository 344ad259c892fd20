import chex
import jax
import numpy as np
import pytest
from controllers.contract_test import ACCURACY
from controllers.strategy1_test import trace

from sparse_regimes.controllers import gentle, strategy1


def test_it_is_strategy1_with_other_values():
  arguments = {
    "keep_init": 0.9,
    "keep_min": 0.3,
    "keep_max": 0.95,
    "tighten_pct": 0.1,
    "relax_step": 0.05,
    "ema_beta": 0.4,
    "drop_tol": 0.1,
    "cooldown": 1,
    "relax_gain": 0.5,
    "max_relax_jump": 0.07,
    "decide_every": 3,
    "best_decay": 0.2,
  }
  chex.assert_trees_all_equal(
    trace(gentle(**arguments), ACCURACY),
    trace(strategy1(**arguments), ACCURACY),
  )
  by_loss = gentle(signal="loss", higher_is_better=True, drop_tol=3)
  assert by_loss.update(by_loss.init(), loss=2.0).ema == 2


def oracle(accuracy, decide_every):
  """The class defaults, word by word, in Python floats."""
  keep, cooldown, ratios = 1.0, 0, []
  ema = best = accuracy[0]
  for i, a in enumerate(accuracy, start=1):
    ema = ema if i == 1 else 0.9 * ema + 0.1 * a
    best = max(best, ema)
    if i % decide_every == 0:
      drop = best - ema
      if drop > 0.01:
        jump = 0.03 * min(1 + 1.5 * (drop - 0.01) / 0.01, 5)
        keep, cooldown = min(1.0, keep + min(jump, 0.03)), 3
      elif cooldown:
        cooldown -= 1
      else:
        keep = max(0.2, keep * 0.98)
    ratios.append(keep)
  return np.array(ratios)


@pytest.mark.parametrize("decide_every", [1, 50])
def test_follows_its_definition(decide_every):
  time = np.arange(60 * decide_every) / decide_every
  accuracy = np.where((time > 20) & (time % 12 < 3), 0.5, 0.8)
  states = trace(gentle(decide_every=decide_every), accuracy)
  expected = oracle(accuracy.tolist(), decide_every)
  np.testing.assert_allclose(states.keep_ratio, expected, rtol=0, atol=1e-5)
  rises = np.diff(states.keep_ratio)
  assert 0.02 < rises.max() < 0.0301
  assert np.sum(rises > 0) > 5


def test_it_hovers_where_strategy1_is_reset():
  """Of a network that bears budgets of half and more."""

  def lived(controller):
    state, ratios = controller.init(), []
    update = jax.jit(lambda s, a: controller.update(s, accuracy=a))
    for _ in range(1500):
      state = update(state, np.float32(0.8 if state.keep_ratio > 0.5 else 0.5))
      ratios.append(float(state.keep_ratio))
    return np.array(ratios[500:])

  hovers = lived(gentle(decide_every=10))
  assert 0.45 < hovers.min() < hovers.max() < 0.65
  saw_tooth = lived(strategy1(decide_every=10))
  assert saw_tooth.max() == 1
