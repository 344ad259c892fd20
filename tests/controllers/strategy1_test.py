import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes.controllers import strategy1

CASES = (
  "released",
  "released_fast",
  "gradual",
  "gradual_uncapped",
  "noise",
  "constant",
  "zero_start",
)


def from_reference(config):
  config = dict(config)
  config["cooldown"] = config.pop("cooldown_epochs")
  config["decide_every"] = config.pop("tighten_every_n_batches")
  return strategy1(**config)


def trace(controller, accuracy):
  def body(state, a):
    state = controller.update(state, accuracy=a)
    return state, state

  _, states = jax.lax.scan(
    body, controller.init(), jnp.asarray(accuracy, jnp.float32)
  )
  return jax.device_get(states)


@pytest.mark.parametrize("case", CASES)
def test_parity_with_the_released_controller(parity, case):
  arrays = parity("controller")
  controller = from_reference(arrays.json(f"{case}/config"))
  states = trace(controller, arrays[f"{case}/accuracy"])
  expected = arrays[f"{case}/keep_ratio"]
  np.testing.assert_allclose(states.keep_ratio, expected, rtol=0, atol=1e-4)
  np.testing.assert_array_equal(states.cooldown, arrays[f"{case}/cooldown"])
  for ours, theirs in (("ema", "ema"), ("best_ema", "best_ema")):
    np.testing.assert_allclose(
      getattr(states, ours), arrays[f"{case}/{theirs}"], rtol=0, atol=1e-5
    )
  before = np.concatenate([[1.0], states.keep_ratio[:-1]])
  np.testing.assert_array_equal(
    states.keep_ratio > before, np.diff(expected, prepend=1.0) > 0
  )


def test_an_uncapped_jump_is_at_most_five_steps():
  controller = strategy1(
    keep_init=0.1, relax_step=0.05, max_relax_jump=0.0, decide_every=2
  )
  states = trace(controller, [1.0, 0.0])
  assert states.keep_ratio[-1] == pytest.approx(0.35)


def test_no_tolerance_is_no_division_by_zero():
  states = trace(strategy1(keep_init=0.5, drop_tol=0.0, decide_every=1), [1, 0])
  assert states.keep_ratio[-1] == 1.0
