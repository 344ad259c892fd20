import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import TinyNet, tiny_batch, tiny_setup, tiny_state

from sparse_regimes import controllers
from sparse_regimes.training.averaging import EMA, averaged, averaging
from sparse_regimes.training.optimizer import sgd


def setup():
  controller = controllers.constant()
  _, state, train_step = tiny_setup(controller, sgd(0.1), donate_state=False)
  return state.replace(extra={EMA: state.params}), train_step


def test_it_follows_its_equation():
  state, train_step = setup()
  step = jax.jit(averaging(train_step, 0.2))
  average = np.asarray(state.params["Dense_0"]["kernel"], np.float64)
  for made in range(4):
    state, _ = step(state, tiny_batch())
    kept = min(0.2, (1 + made) / (10 + made))
    new = np.asarray(state.params["Dense_0"]["kernel"], np.float64)
    average = kept * average + (1 - kept) * new
  np.testing.assert_allclose(
    averaged(state).params["Dense_0"]["kernel"], average, rtol=1e-5
  )


def test_a_step_that_is_skipped_leaves_it():
  state, train_step = setup()
  state, _ = averaging(train_step, 0.5)(state, tiny_batch())
  broken = tiny_batch() | {"mask": jnp.zeros(16, bool)}
  after, metrics = averaging(train_step, 0.5)(state, broken)
  assert metrics["skipped"] == 1
  jax.tree.map(np.testing.assert_array_equal, after.extra, state.extra)


def test_a_state_without_one_is_named():
  state = tiny_state(TinyNet(), sgd(0.1), controllers.constant())
  with pytest.raises(ValueError, match=r"no average: train\.ema_decay was 0"):
    averaged(state)
  with pytest.raises(ValueError, match="decay must be in"):
    averaging(lambda s, b: (s, {}), 1.0)
