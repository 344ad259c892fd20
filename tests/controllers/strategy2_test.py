import numpy as np
import pytest
from controllers.strategy1_test import trace

from sparse_regimes.controllers import strategy2


def oracle(
  accuracy,
  *,
  keep_min=0.02,
  keep_max=1.0,
  tighten_pct=0.018,
  ema_beta=0.5,
  drop_tol=0.12,
  patience=3,
  decide_every=128,
):
  """The definition, word by word, in Python floats."""
  keep, waiting, ratios, waits = 1.0, 0, [], []
  ema = best = None
  for i, a in enumerate(accuracy, start=1):
    ema = a if ema is None else ema_beta * ema + (1 - ema_beta) * a
    best = ema if best is None else max(best, ema)
    if i % decide_every == 0:
      if keep <= keep_min:
        keep, waiting = keep_max, 0
      elif best - ema > drop_tol:
        waiting += 1
        if waiting == patience:
          keep, waiting = keep_max, 0
      else:
        waiting = 0
        keep = max(keep_min, keep * (1 - tighten_pct))
    ratios.append(keep)
    waits.append(waiting)
  return np.array(ratios), np.array(waits)


@pytest.mark.parametrize(
  "arguments",
  [
    {"decide_every": 1, "tighten_pct": 0.2, "keep_min": 0.1},
    {"decide_every": 3, "tighten_pct": 0.1, "keep_min": 0.3, "patience": 1},
    {"decide_every": 2, "drop_tol": 0.4, "keep_max": 1.0, "ema_beta": 0.9},
    {"decide_every": 4, "keep_min": 0.0, "tighten_pct": 0.5},
  ],
)
def test_follows_its_definition(arguments):
  rng = np.random.default_rng(1)
  accuracy = np.clip(
    0.6 + 0.3 * np.sin(np.arange(1500) / 40) + 0.1 * rng.normal(size=1500), 0, 1
  )
  states = trace(strategy2(**arguments), accuracy)
  ratios, waits = oracle(accuracy, **arguments)
  np.testing.assert_allclose(states.keep_ratio, ratios, rtol=0, atol=1e-5)
  np.testing.assert_array_equal(states.waiting, waits)
  assert np.any(np.diff(ratios) > 0), "the case never resets"


def test_patience_must_be_positive():
  with pytest.raises(
    ValueError, match=r"patience must be in \[1, 2147483647\], got 0"
  ):
    strategy2(patience=0)
