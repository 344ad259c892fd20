"""Where the batches of a step come from makes no difference to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_batch, tiny_setup

from sparse_regimes import controllers
from sparse_regimes.runs.epoch import FromDevice, FromHost
from sparse_regimes.runs.mesh import (
  make_mesh,
  over_batches,
  place,
  place_state,
  replicated,
  state_shardings,
)
from sparse_regimes.tasks import gather
from sparse_regimes.training.call import make_train_call
from sparse_regimes.training.optimizer import sgd


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [1, 8])
def test_from_the_host_or_the_device_the_steps_are_the_same(num_devices):
  _, state, train_step = tiny_setup(controllers.strategy1(), sgd(0.05))
  examples = {n: np.asarray(x) for n, x in tiny_batch().items()}
  rng = np.random.default_rng(0)
  indices = rng.integers(0, 16, (5, 8)).astype(np.int32)
  mesh = make_mesh(8, num_devices)
  state = place_state(state, state_shardings(state, mesh, "replicated"))
  over = over_batches(mesh, axis=1, size=8)
  on_devices = {n: place(x, replicated(mesh)) for n, x in examples.items()}
  feeds = [
    FromDevice(make_train_call(train_step, gather), on_devices, over, 8),
    FromHost(make_train_call(train_step), examples, over, 8),
  ]
  losses = []
  with jax.set_mesh(mesh):
    for feed in feeds:
      ours, found = jax.tree.map(jnp.copy, state), []
      # The last call is shorter.
      for length in (2, 1):
        feed.compile(ours, length)
      for made, call in feed.calls(indices, 2):
        ours, metrics = call(ours)
        assert metrics["loss"].shape == (made,)
        found += metrics["loss"].tolist()
      losses.append(found)
  assert len(losses[0]) == 5
  # Two programs, which may round otherwise.
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
