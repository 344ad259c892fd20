import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from tiny import tiny_batch, tiny_setup

from sparse_regimes import controllers
from sparse_regimes.errors import InputError
from sparse_regimes.runs.mesh import (
  described,
  make_mesh,
  over_batches,
  place,
  place_state,
  state_shardings,
)
from sparse_regimes.tasks import gather
from sparse_regimes.training.call import make_train_call
from sparse_regimes.training.optimizer import sgd


def trajectory(num_devices, parameters):
  """Losses, accuracies and budgets of twelve steps, and the last state."""
  controller = controllers.strategy1(
    decide_every=2, tighten_pct=0.3, drop_tol=0.05, cooldown=1
  )
  _, state, train_step = tiny_setup(controller, sgd(0.1), dropout=0.2)
  mesh = make_mesh(16, num_devices)
  shardings = state_shardings(state, mesh, parameters)
  state = place_state(state, shardings)
  batch = tiny_batch()
  examples = {
    name: place(np.asarray(array), over_batches(mesh, 0, 16))
    for name, array in batch.items()
  }
  indices = place(
    np.arange(16, dtype=np.int32)[None], over_batches(mesh, 1, 16)
  )
  train_call = make_train_call(
    train_step, gather, out_shardings=(shardings, None)
  )
  history = []
  with jax.set_mesh(mesh):
    for _ in range(12):
      state, metrics = train_call(state, examples, indices)
      history.append(
        [float(metrics[n][0]) for n in ("loss", "accuracy", "keep_ratio")]
      )
  return np.array(history), state


@pytest.mark.slow
@pytest.mark.parametrize("parameters", ["replicated", "sharded"])
def test_eight_devices_train_as_one_does(parameters):
  one, _ = trajectory(1, "replicated")
  eight, state = trajectory(8, parameters)
  np.testing.assert_array_equal(eight[:, 2], one[:, 2])  # the same decisions
  assert len(set(one[:, 2])) > 2
  np.testing.assert_allclose(eight[:, :2], one[:, :2], rtol=2e-4)
  kernel = state.params["Dense_0"]["kernel"]
  momentum = state.opt_state[0].trace["Dense_0"]["kernel"]
  share = 8 if parameters == "sharded" else 1
  for array in (kernel, momentum):
    assert array.addressable_shards[0].data.size * share == array.size


def test_the_longest_axis_that_devices_divide_is_split():
  mesh = make_mesh(8, 8)
  arrays = {
    "kernel": np.zeros((3, 3, 16, 64)),
    "bias": np.zeros(10),
    "step": np.zeros(()),
    "rng": jax.random.key(0),
  }
  specs = {
    name: s.spec for name, s in state_shardings(arrays, mesh, "sharded").items()
  }
  assert specs["kernel"] == PartitionSpec(None, None, None, "data")
  assert specs["bias"] == PartitionSpec(None)
  assert specs["step"] == specs["rng"] == PartitionSpec()


def test_as_many_devices_as_divide_the_batch():
  assert [make_mesh(b).size for b in (1, 6, 12, 128)] == [1, 6, 6, 8]
  assert make_mesh(128, 3 - 1).size == 2


@pytest.mark.parametrize(
  ("batch_size", "num_devices", "message"),
  [
    (16, 9, "train.num_devices must be at most the 8 devices"),
    (10, 4, "train.batch_size must be a multiple of the 4 devices .* got 10"),
  ],
)
def test_what_does_not_fit_is_named(batch_size, num_devices, message):
  with pytest.raises(InputError, match=message):
    make_mesh(batch_size, num_devices)


def test_a_batch_that_is_not_divided_lies_everywhere():
  mesh = make_mesh(8, 8)
  assert over_batches(mesh, 0, 16).spec == PartitionSpec("data")
  assert over_batches(mesh, 1, 16).spec == PartitionSpec(None, "data")
  assert over_batches(mesh, 0, 17).spec == PartitionSpec()


def test_a_placed_state_is_what_it_was():
  _, state, _ = tiny_setup(controllers.constant(), sgd(0.1))
  shardings = state_shardings(state, make_mesh(8, 8), "sharded")
  placed = place_state(state, shardings)
  for x, y, s in zip(
    jax.tree.leaves(described(state, shardings)),
    jax.tree.leaves(placed),
    jax.tree.leaves(shardings),
    strict=True,
  ):
    assert (x.shape, x.dtype, x.sharding) == (y.shape, y.dtype, s)
  assert jax.random.key_data(placed.rng).tolist() == (
    jax.random.key_data(state.rng).tolist()
  )
