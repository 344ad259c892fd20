import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from controllers.strategy1_test import from_reference as reference_controller
from tiny import apply, init, tiny_batch, tiny_setup

from sparse_regimes import (
  TrainState,
  WideResNet,
  controllers,
  make_eval_step,
  make_train_step,
)
from sparse_regimes.data.dataset import normalize
from sparse_regimes.models.wide_resnet import from_reference
from sparse_regimes.tasks import gather
from sparse_regimes.training.call import make_train_call
from sparse_regimes.training.optimizer import sgd


@pytest.mark.optimised
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
  seen = []
  for i in range(30):
    rows = slice(i * size, (i + 1) * size)
    batch = {
      "images": jnp.asarray(arrays["images_uint8_nhwc"][rows]),
      "labels": jnp.asarray(arrays["labels"][rows]),
    }
    state, metrics = train_step(state, batch)
    metrics["keep_ratio_next"] = state.controller_state.keep_ratio
    seen.append(jax.device_get(metrics))

  def check(ours, theirs, **tolerance):
    np.testing.assert_allclose(
      [metrics[ours] for metrics in seen],
      arrays[f"train/{theirs}"],
      **({"rtol": 0} | tolerance),
      err_msg=theirs,
    )

  check("loss", "loss", rtol=1e-3)
  check("keep_ratio", "keep_ratio_used", atol=1e-6)
  check("keep_ratio_next", "keep_ratio_next", atol=1e-6)
  check("nonzero", "nonzero", atol=1e-3)
  # A rounding difference may turn one image of 32.
  check("accuracy", "accuracy", atol=1.5 / 32)


@pytest.mark.optimised
def test_golden_numbers():
  # The numbers of the code as it stands. They may change only with a change to
  # the model, its initialisation, the optimizer or the controller that is meant
  # to change results; the changelog then says so.
  model = WideResNet(10, 1)
  tx, controller = sgd(0.05), controllers.strategy1(decide_every=2)
  batch = {
    "images": jax.random.normal(jax.random.key(0), (16, 8, 8, 3)),
    "labels": jnp.arange(16) % 10,
  }
  state = TrainState.create(
    init(model, batch["images"], seed=1),
    tx=tx,
    controller=controller,
    rng=jax.random.key(2),
  )
  train_step = make_train_step(model.apply, tx, controller)
  losses = []
  for _ in range(4):
    state, metrics = train_step(state, batch)
    losses.append(float(metrics["loss"]))
  np.testing.assert_allclose(
    losses, [2.470161, 2.079028, 1.704131, 1.346671], rtol=2e-4
  )
  assert state.controller_state.keep_ratio == pytest.approx(0.982**2)


def test_the_decision_of_a_step_acts_from_the_next():
  controller = controllers.strategy1(decide_every=1, tighten_pct=0.5)
  _, state, train_step = tiny_setup(controller, sgd(0.05))
  used = []
  for _ in range(3):
    decided = float(state.controller_state.keep_ratio)
    state, metrics = train_step(state, tiny_batch())
    used.append((decided, float(metrics["keep_ratio"])))
  assert used == [(1.0, 1.0), (0.5, 0.5), (0.25, 0.25)]


def test_one_batch_can_be_learned_by_heart_under_a_budget():
  _, state, train_step = tiny_setup(controllers.constant(0.2), sgd(0.05))
  for _ in range(60):
    state, metrics = train_step(state, tiny_batch())
  assert metrics["accuracy"] == 1.0
  assert metrics["nonzero"] <= 0.2


@pytest.mark.parametrize(
  ("loss_fn", "loss_is_finite"),
  [
    (lambda logits, _: jnp.sum(logits, -1) * jnp.nan, False),
    (lambda logits, _: jnp.sum(logits, -1) * jnp.inf, False),
    # The root of zero is zero, and its slope is infinite.
    (lambda logits, _: jnp.sqrt(0 * jnp.sum(logits, -1)), True),
  ],
)
def test_a_step_that_is_not_finite_only_counts(loss_fn, loss_is_finite):
  controller = controllers.strategy1(decide_every=1)
  model, state, train_step = tiny_setup(
    controller, sgd(0.05), donate_state=False
  )
  state, metrics = train_step(state, tiny_batch())
  assert metrics["skipped"] == 0
  broken_step = make_train_step(
    model.apply, sgd(0.05), controller, loss_fn=loss_fn, preprocess=normalize
  )
  before = jax.device_get(state.replace(rng=None))
  after, metrics = broken_step(state, tiny_batch())
  assert metrics["skipped"] == 1
  assert np.isfinite(metrics["loss"]) == loss_is_finite
  after = jax.device_get(after.replace(rng=None))
  assert after.step == before.step + 1
  chex.assert_trees_all_equal(after.replace(step=before.step), before)


def test_an_update_that_overflows_is_skipped():
  _, state, train_step = tiny_setup(
    controllers.strategy1(), optax.sgd(jnp.inf), donate_state=False
  )
  after, metrics = train_step(state, tiny_batch())
  assert np.isfinite(metrics["loss"])
  assert metrics["skipped"] == 1
  chex.assert_trees_all_equal(after.params, state.params)


def test_one_compilation_while_the_budget_moves():
  controller = controllers.strategy1(decide_every=1)
  _, state, train_step = tiny_setup(controller, sgd(0.05))
  for _ in range(3):
    state, _ = train_step(state, tiny_batch())
  assert train_step._cache_size() == 1


@pytest.mark.parametrize(
  "batch", [{"x": jnp.ones((2, 4)), "y": jnp.ones(2)}, (jnp.ones(2),) * 2]
)
def test_a_batch_without_its_names_is_told(batch):
  model, state, step = tiny_setup(controllers.constant(0.5), sgd(0.05))
  message = "must be a dict with 'images' and"
  with pytest.raises(ValueError, match=message):
    step(state, batch)
  with pytest.raises(ValueError, match=message):
    make_eval_step(model.apply)(state, batch, 1.0)


@pytest.mark.parametrize("donate_state", [True, False])
def test_the_state_is_donated_unless_told_otherwise(donate_state):
  _, state, train_step = tiny_setup(
    controllers.strategy1(), sgd(0.05), donate_state=donate_state
  )
  train_step(state, tiny_batch())
  assert state.step.is_deleted() == donate_state


def test_the_state_is_arrays_and_keeps_its_types():
  for controller in (controllers.constant(), controllers.strategy2()):
    _, state, train_step = tiny_setup(controller, sgd(0.05))
    before = jax.eval_shape(lambda s: s, state)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))
    after, _ = train_step(state, tiny_batch())
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)


def test_batch_statistics_and_dropout_keys_are_carried():
  _, state, train_step = tiny_setup(
    controllers.constant(), optax.sgd(0.0), dropout=0.5
  )
  before = jax.device_get(state.batch_stats)
  state, first = train_step(state, tiny_batch())
  after = jax.device_get(state.batch_stats)
  assert not np.allclose(
    before["BatchNorm_0"]["mean"], after["BatchNorm_0"]["mean"]
  )
  # Nothing learned, the same batch, another key: another loss.
  _, second = train_step(state, tiny_batch())
  assert first["loss"] != second["loss"]


def test_each_stream_draws_anew_at_every_step():
  def apply_fn(variables, images, keep_ratio, train, rngs, mutable):
    # Gradients of the logits' sum are what was drawn.
    drawn = [jax.random.uniform(rngs[name]) for name in ("dropout", "synapse")]
    return (variables["params"] * jnp.stack(drawn)[None], jnp.ones(1)), {}

  tx, controller = optax.sgd(1.0), controllers.constant()
  state = TrainState.create(
    {"params": jnp.zeros((1, 2))},
    tx=tx,
    controller=controller,
    rng=jax.random.key(0),
  )
  train_step = make_train_step(
    apply_fn,
    tx,
    controller,
    loss_fn=lambda logits, labels: -logits.sum(-1),
    donate_state=False,
  )
  batch = {"images": jnp.zeros((1, 2)), "labels": jnp.zeros(1, jnp.int32)}
  drawn = []
  for _ in range(3):
    before = state.params
    state, _ = train_step(state, batch)
    drawn += (state.params - before).ravel().tolist()
  assert len(set(np.round(drawn, 4))) == 6


@pytest.mark.optimised
def test_several_steps_in_a_call_are_the_steps_one_by_one():
  _, state, train_step = tiny_setup(
    controllers.strategy1(decide_every=2), sgd(0.05), dropout=0.2
  )
  batch = tiny_batch()
  indices = np.random.default_rng(0).permutation(16).reshape(4, 4)
  call = make_train_call(train_step, gather)
  copy = jax.tree.map(jnp.copy, state)
  again = jax.tree.map(jnp.copy, state)
  scanned, together = call(state, batch, indices)
  losses = []
  for index in indices:
    copy, one = call(copy, batch, index[None])
    losses.append(one["loss"][0])
  np.testing.assert_allclose(together["loss"], losses, rtol=1e-5)
  chex.assert_trees_all_close(scanned.params, copy.params, rtol=1e-4)
  chex.assert_trees_all_equal(scanned.controller_state, copy.controller_state)
  # And of batches that somebody else has gathered.
  batches = {name: array[indices] for name, array in batch.items()}
  given, streamed = make_train_call(train_step)(again, batches)
  np.testing.assert_array_equal(streamed["loss"], together["loss"])
  chex.assert_trees_all_equal(given.params, scanned.params)


def test_eval_step_sums_over_the_batch():
  model, state, _ = tiny_setup(controllers.constant(), sgd(0.05))
  eval_step = make_eval_step(model.apply, preprocess=normalize)
  batch = tiny_batch()
  sums = eval_step(state, batch, 0.3)
  images = normalize(batch["images"])
  logits, stats = apply(model, state.variables, images, 0.3)
  labels = batch["labels"]
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  assert sums["count"] == 16
  assert sums["correct"] == (logits.argmax(-1) == labels).sum()
  np.testing.assert_allclose(sums["loss"], losses.sum(), rtol=1e-5)
  np.testing.assert_allclose(sums["nonzero"], stats * 16, rtol=1e-5)


def test_eval_step_compiles_once_whatever_a_ratio_is():
  model, state, _ = tiny_setup(controllers.constant(0.5), sgd(0.05))

  @chex.assert_max_traces(1)
  def apply_fn(*arguments, **keywords):
    return model.apply(*arguments, **keywords)

  eval_step = make_eval_step(apply_fn, preprocess=normalize)
  ratios = (1, 1.0, 0.2, np.float64(0.3), jnp.float32(0.4))
  for ratio in (*ratios, state.controller_state.keep_ratio):
    eval_step(state, tiny_batch(), ratio)
