import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from controllers.strategy1_test import from_reference as reference_controller

from sparse_regimes import (
  TrainState,
  WideResNet,
  controllers,
  make_eval_step,
  make_train_step,
)
from sparse_regimes.data.dataset import normalize
from sparse_regimes.models.wide_resnet import from_reference
from sparse_regimes.optimizer import sgd
from sparse_regimes.step import make_train_call


def small(*, controller=None, tx=None, **arguments):
  model = WideResNet(10, 1, **arguments)
  tx = tx or sgd(0.05)
  controller = controller or controllers.strategy1(decide_every=2)
  images = jax.random.randint(jax.random.key(0), (16, 8, 8, 3), 0, 256)
  batch = {
    "images": images.astype(jnp.uint8),
    "labels": jnp.arange(16) % 10,
  }
  state = TrainState.create(
    jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)), 1.0),
    tx=tx,
    controller=controller,
    rng=jax.random.key(2),
  )
  train_step = make_train_step(
    model.apply, tx, controller, preprocess=normalize
  )
  return model, state, batch, train_step


def test_parity_with_thirty_steps_of_the_reference(parity):
  arrays = parity("wrn")
  model = WideResNet(10, 1)
  optimizer = arrays.json("train/optimizer")
  tx = sgd(
    optimizer["lr"],
    momentum=optimizer["momentum"],
    nesterov=optimizer["nesterov"],
    weight_decay=optimizer["weight_decay"],
  )
  controller = reference_controller(arrays.json("train/controller"))
  state = TrainState.create(
    from_reference(arrays.below("train/params/")),
    tx=tx,
    controller=controller,
    rng=jax.random.key(0),
  )
  train_step = make_train_step(
    model.apply, tx, controller, preprocess=normalize
  )
  size = optimizer["batch_size"]
  for i in range(30):
    rows = slice(i * size, (i + 1) * size)
    state, metrics = train_step(
      state,
      {
        "images": jnp.asarray(arrays["images_uint8_nhwc"][rows]),
        "labels": jnp.asarray(arrays["labels"][rows]),
      },
    )
    step = f"step {i}"
    for ours, theirs, tolerance in (
      (metrics["loss"], "loss", {"rtol": 1e-3}),
      # One image of 32 may fall the other way on a rounding difference.
      (metrics["accuracy"], "accuracy", {"atol": 1.5 / 32}),
      (metrics["keep_ratio"], "keep_ratio_used", {"atol": 1e-6}),
      (metrics["nonzero"], "nonzero", {"atol": 1e-3}),
      (
        state.controller_state.keep_ratio,
        "keep_ratio_next",
        {"atol": 1e-6},
      ),
    ):
      np.testing.assert_allclose(
        ours, arrays[f"train/{theirs}"][i], err_msg=f"{step} {theirs}",
        **({"rtol": 0} | tolerance),
      )  # fmt: skip


def test_golden_numbers():
  # These are the numbers of the code as it stands. They may change only with a
  # change to the model, its initialisation, the optimizer or the controller
  # that is meant to change results; the changelog then says so.
  _, state, batch, train_step = small()
  losses = []
  for _ in range(4):
    state, metrics = train_step(state, batch)
    losses.append(float(metrics["loss"]))
  np.testing.assert_allclose(losses, GOLDEN, rtol=2e-4)
  assert state.controller_state.keep_ratio == pytest.approx(0.982**2)


GOLDEN = [2.457580, 2.099231, 1.763398, 1.461277]


def test_the_decision_of_a_step_acts_from_the_next():
  _, state, batch, train_step = small(
    controller=controllers.strategy1(decide_every=1, tighten_pct=0.5)
  )
  used = []
  for _ in range(3):
    decided = float(state.controller_state.keep_ratio)
    state, metrics = train_step(state, batch)
    used.append((decided, float(metrics["keep_ratio"])))
  assert used == [(1.0, 1.0), (0.5, 0.5), (0.25, 0.25)]


def test_one_batch_can_be_learned_by_heart_under_a_budget():
  _, state, batch, train_step = small(controller=controllers.constant(0.2))
  for _ in range(40):
    state, metrics = train_step(state, batch)
  assert metrics["accuracy"] == 1.0
  assert metrics["nonzero"] <= 0.2


def test_a_loss_that_is_not_finite_does_not_move_the_controller():
  controller = controllers.strategy1(decide_every=1)
  _, state, batch, train_step = small(controller=controller, tx=sgd(jnp.inf))
  state, _ = train_step(state, batch)
  before = jax.device_get(state.controller_state)
  state, metrics = train_step(state, batch)
  assert not np.isfinite(metrics["loss"])
  chex.assert_trees_all_equal(before, jax.device_get(state.controller_state))


def test_one_compilation_while_the_budget_moves():
  _, state, batch, train_step = small(
    controller=controllers.strategy1(decide_every=1)
  )
  for _ in range(3):
    state, _ = train_step(state, batch)
  assert train_step._cache_size() == 1


def test_the_state_is_donated_unless_told_otherwise():
  model, state, batch, train_step = small()
  kept = make_train_step(
    model.apply,
    sgd(0.05),
    controllers.strategy1(decide_every=2),
    preprocess=normalize,
    donate_state=False,
  )
  kept(state, batch)
  assert not state.step.is_deleted()
  train_step(state, batch)
  assert state.step.is_deleted()


def test_batch_statistics_are_carried():
  _, state, batch, train_step = small(norm="bn")
  before = jax.device_get(state.batch_stats)
  state, _ = train_step(state, batch)
  after = jax.device_get(state.batch_stats)
  chex.assert_trees_all_equal_shapes(before, after)
  assert not np.allclose(before["norm"]["mean"], after["norm"]["mean"])


def test_several_steps_in_a_call_are_the_steps_one_by_one():
  _, state, batch, train_step = small(dropout=0.2)
  indices = np.random.default_rng(0).permutation(16).reshape(4, 4)
  call = make_train_call(train_step)
  copy = jax.tree.map(jnp.copy, state)
  scanned, together = call(state, batch["images"], batch["labels"], indices)
  losses = []
  for index in indices:
    copy, one = call(copy, batch["images"], batch["labels"], index[None])
    losses.append(one["loss"][0])
  np.testing.assert_allclose(together["loss"], losses, rtol=1e-5)
  chex.assert_trees_all_close(scanned.params, copy.params, rtol=1e-4, atol=1e-5)


def test_eval_step_sums_over_the_batch():
  model, state, batch, _ = small()
  eval_step = make_eval_step(model.apply, preprocess=normalize)
  sums = eval_step(state, batch, 0.3)
  logits, stats = model.apply(
    state.variables, normalize(batch["images"]), 0.3, train=False
  )
  labels = batch["labels"]
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  assert sums["count"] == 16
  assert sums["correct"] == (logits.argmax(-1) == labels).sum()
  np.testing.assert_allclose(sums["loss"], losses.sum(), rtol=1e-5)
  np.testing.assert_allclose(sums["nonzero"], stats * 16, rtol=1e-5)
  for ratio in (1.0, 0.5, 0.1):
    eval_step(state, batch, ratio)
  assert eval_step._cache_size() == 1
