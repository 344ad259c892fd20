"""`make_step` with losses, optimizers, batches and meshes of other projects."""

import functools

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.core import freeze
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tiny import init

import sparse_regimes as sr
from sparse_regimes import controllers
from sparse_regimes.training.finiteness import Learned, stays_finite

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (32, 6))
BATCH = {"x": X, "y": jnp.sin(X[:, :1])}
PARAMS = {
  "a": 0.4 * jax.random.normal(jax.random.key(1), (6, 16)),
  "b": 0.2 * jax.random.normal(jax.random.key(2), (16, 1)),
}
CLASSES = {"images": X, "labels": jnp.arange(32) % 10}


def loss_fn(params, model_state, batch, *, keep_ratio, rng):
  hidden = sr.sparse_activation(batch["x"] @ params["a"], keep_ratio)
  return jnp.mean(jnp.square(hidden @ params["b"] - batch["y"])), {}


def start(tx, controller, **arguments):
  return sr.TrainState.create(
    {"params": jax.tree.map(jnp.copy, PARAMS)},
    tx=tx,
    controller=controller,
    rng=jax.random.key(3),
    **arguments,
  )


def by_loss(**arguments):
  arguments = {"decide_every": 2, "drop_tol": 0.5} | arguments
  return controllers.strategy1(signal="loss", **arguments)


contrib = optax.contrib
OPTIMIZERS = {
  "plateau": lambda: optax.chain(
    optax.adam(1e-2), contrib.reduce_on_plateau(accumulation_size=4)
  ),
  "polyak": optax.polyak_sgd,
  "momo": lambda: contrib.momo(0.1),
  "sam": lambda: contrib.sam(
    optax.sgd(0.05), contrib.normalize(), sync_period=2
  ),
  "schedule_free": lambda: contrib.schedule_free_adamw(0.05),
  "multi_steps": lambda: optax.MultiSteps(optax.polyak_sgd(), 2),
  "multi_steps_of_plateau": lambda: optax.MultiSteps(
    optax.chain(optax.adam(1e-2), contrib.reduce_on_plateau()), 2
  ).gradient_transformation(),
  "dog": lambda: contrib.dog(1.0),
  "prodigy": lambda: contrib.prodigy(0.1),
  "cocob": contrib.cocob,
  "takes_value_alone": lambda: optax.GradientTransformationExtraArgs(
    lambda params: (),
    lambda grads, state, params=None, *, value: (
      jax.tree.map(lambda g: -0.05 * g / (1 + value), grads),
      state,
    ),
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_trains_with_optax(name):
  tx, controller = OPTIMIZERS[name](), by_loss()
  with jax.numpy_dtype_promotion("standard"):
    state = start(tx, controller)
    step = sr.make_step(loss_fn, tx, controller)
    losses = []
    for _ in range(12):
      state, metrics = step(state, BATCH)
      losses.append(float(metrics["loss"]))
      assert metrics["skipped"] == 0
  assert losses[-1] < losses[0]
  assert state.controller_state.num_batches == 12


def test_an_optimizer_gets_the_loss_and_the_budget():
  def update(grads, state, params=None, *, value, controller_state, **extra):
    assert not extra
    return grads, (value, controller_state.keep_ratio)

  tx = optax.GradientTransformationExtraArgs(
    lambda params: (jnp.zeros(()), jnp.zeros(())), update
  )
  controller = by_loss(keep_init=0.7)
  state, metrics = sr.make_step(loss_fn, tx, controller)(
    start(tx, controller), BATCH
  )
  assert state.opt_state[0] == metrics["loss"]
  assert state.opt_state[1] == jnp.float32(0.7)


def test_a_moment_that_becomes_infinite_is_skipped_a_scalar_may():
  def update(grads, state, params=None):
    return jax.tree.map(lambda g: -g, grads), jax.tree.map(
      lambda x: x + jnp.inf, state
    )

  controller = by_loss()
  for moment, skipped in ((jnp.zeros(()), 0), (jnp.zeros(2), 1)):
    tx = optax.GradientTransformation(lambda _, m=moment: m, update)
    step = sr.make_step(loss_fn, tx, controller)
    _, metrics = step(start(tx, controller), BATCH)
    assert metrics["skipped"] == skipped


def test_what_a_project_adds_is_carried_and_aliases_are_copied():
  tx, controller = contrib.dog(1.0), controllers.constant(0.5)
  state = start(tx, controller, extra={"first": PARAMS})
  state = sr.TrainState.create(
    {"params": PARAMS},
    tx=tx,
    controller=controller,
    rng=KEY,
    extra={"first": PARAMS, "again": PARAMS},
  )
  pointers = [
    leaf.unsafe_buffer_pointer()
    for leaf in jax.tree.leaves(state.replace(rng=None))
    if leaf.size
  ]
  assert len(set(pointers)) == len(pointers)
  kept = jax.device_get(state.extra)
  after, _ = sr.make_step(loss_fn, tx, controller, donate_state=False)(
    state, BATCH
  )
  chex.assert_trees_all_equal(jax.device_get(after.extra), kept)
  assert not KEY.is_deleted()


def test_model_states_of_any_name_and_frozen_variables():
  class Counting(nn.Module):
    @nn.compact
    def __call__(self, images, keep_ratio, train=False):
      calls = self.variable("counts", "calls", jnp.zeros, (), jnp.int32)
      if train:
        calls.value += 1
      x = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(images))
      x = sr.sparse_activation(x, keep_ratio)
      return nn.Dense(10)(x), jnp.mean(x != 0)[None]

  model, tx, controller = Counting(), optax.sgd(0.1), controllers.strategy1()
  variables = freeze(init(model, X))
  state = sr.TrainState.create(variables, tx=tx, controller=controller, rng=KEY)
  assert type(state.params) is dict
  step = sr.make_train_step(model.apply, tx, controller)
  for _ in range(3):
    state, metrics = step(state, CLASSES)
  assert metrics["skipped"] == 0
  assert state.model_state["counts"]["calls"] == 3
  assert set(state.batch_stats) == {"BatchNorm_0"}
  assert set(state.variables) == {"params", "batch_stats", "counts"}


def test_a_state_becomes_bytes_and_comes_back():
  tx, controller = optax.sgd(0.1, momentum=0.9), by_loss()
  state = start(tx, controller, extra={"average": jnp.ones(2)})
  state, _ = sr.make_step(loss_fn, tx, controller)(state, BATCH)
  blank = start(tx, controller, extra={"average": jnp.zeros(2)})
  written = flax.serialization.to_bytes(state)
  read = flax.serialization.from_bytes(blank, written)
  plain = [s.replace(rng=jax.random.key_data(s.rng)) for s in (state, read)]
  chex.assert_trees_all_equal(*plain)
  content = flax.serialization.to_state_dict(state)
  content["batch_stats"] = content.pop("model_state")
  with pytest.raises(ValueError, match="batch_stats, model_state is not in"):
    flax.serialization.from_state_dict(blank, content)


@pytest.mark.parametrize(
  ("result", "message"),
  [
    (lambda loss: (loss[None], {}), r"scalar loss, got shape \(1,\)"),
    (lambda loss: (loss, {"signal": {}}), r"got \['signal'\]"),
    (lambda loss: (loss, loss), "got .*Tracer"),
    (
      lambda loss: (loss, {"model_state": {"stats": {"m": loss}}}),
      "model_state must keep its structure, got another 'stats'",
    ),
  ],
)
def test_what_does_not_fit_is_named(result, message):
  def bad(params, model_state, batch, *, keep_ratio, rng):
    return result(loss_fn(params, {}, batch, keep_ratio=1.0, rng=rng)[0])

  tx, controller = optax.sgd(0.1), by_loss()
  with pytest.raises(ValueError, match=message):
    sr.make_step(bad, tx, controller)(start(tx, controller), BATCH)
  with pytest.raises(ValueError, match="must have the collection params, got"):
    sr.TrainState.create({"w": X}, tx=tx, controller=controller, rng=KEY)


def test_a_signal_that_never_comes_is_an_error_that_lists_what_did():
  tx, controller = optax.sgd(0.1), controllers.strategy1()
  message = "signal 'accuracy' did not come, these did: loss"
  with pytest.raises(ValueError, match=message):
    sr.make_step(loss_fn, tx, controller)(start(tx, controller), BATCH)


def test_signals_are_nan_when_a_step_is_skipped():
  heard = []

  def update(state, **signals):
    jax.debug.callback(lambda **s: heard.append(s), **signals)
    return state

  class Budget(flax.struct.PyTreeNode):
    keep_ratio: jax.Array

  controller = sr.Controller(lambda: Budget(jnp.ones(())), update)

  def bad(params, model_state, batch, *, keep_ratio, rng):
    loss = jnp.sum(params["a"]) * batch["scale"]
    return loss, {
      "signals": {"rank": jnp.int32(3), "many": {"of": jnp.ones(2)}}
    }

  tx = optax.sgd(0.1)
  step = sr.make_step(bad, tx, controller)
  state = start(tx, controller)
  for scale in (1.0, jnp.inf):
    state, _ = step(state, {"scale": scale})
  jax.effects_barrier()
  assert heard[0]["rank"] == 3
  assert np.isfinite(heard[0]["loss"])
  for leaf in jax.tree.leaves(heard[1]):
    assert np.all(np.isnan(leaf))


# --- Labels ------------------------------------------------------------------


class Net(nn.Module):
  """Linear, batch norm over an axis if there is one, mask, linear."""

  axis: str | None = None

  @nn.compact
  def __call__(self, images, keep_ratio, train=False):
    axis = None if self.is_initializing() else self.axis
    x = nn.Dense(16)(images)
    x = nn.BatchNorm(use_running_average=not train, axis_name=axis)(x)
    x = sr.sparse_activation(x, keep_ratio, axis=-1)
    return nn.Dense(10)(x), jnp.mean(x != 0)[None]


def classifier(axis=None, **arguments):
  tx = optax.sgd(0.1, momentum=0.9)
  controller = controllers.strategy1(decide_every=2, tighten_pct=0.4)
  state = sr.TrainState.create(
    init(Net(), X), tx=tx, controller=controller, rng=KEY
  )
  if axis:
    arguments |= {"axis_name": axis, "jit": False}
  return state, sr.make_train_step(Net(axis).apply, tx, controller, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("labels", "is_right"),
  [
    (jax.nn.one_hot(jnp.arange(32) % 10, 10), True),
    (jax.nn.one_hot(jnp.arange(32) % 10, 10, dtype=jnp.int32), False),
    (jnp.arange(32)[:, None] % 10, False),
    (jnp.arange(32.0) % 10, False),
    (jnp.zeros((32, 5)), False),
    (jnp.zeros((), jnp.int32), False),
  ],
)
def test_labels_are_right_or_an_error_that_names_them(labels, is_right):
  state, step = classifier()
  batch = {"images": X, "labels": labels}
  evaluate = sr.make_eval_step(Net().apply)
  if not is_right:
    for call in (
      lambda: step(state, batch),
      lambda: evaluate(state, batch, 1.0),
    ):
      with pytest.raises(
        ValueError, match=r"labels must be integers \(32,\) or"
      ):
        call()
    return
  found = evaluate(state, batch, 1.0), step(state, batch)[1]
  state, step = classifier()
  expected = evaluate(state, CLASSES, 1.0), step(state, CLASSES)[1]
  chex.assert_trees_all_close(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_labels_of_tokens_count_where_the_mask_says():
  tokens = {
    "tokens": jax.random.normal(KEY, (4, 7, 6)),
    "labels": jax.random.randint(KEY, (4, 7), 0, 10),
    "mask": jnp.arange(7)[None] < jnp.array([7, 3, 1, 0])[:, None],
  }
  state, step = classifier(inputs="tokens")
  evaluate = sr.make_eval_step(Net().apply, inputs="tokens")
  sums = evaluate(state, tokens, 0.5)
  logits, stats = Net().apply(state.variables, tokens["tokens"], 0.5)
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, tokens["labels"]
  )
  mask = np.asarray(tokens["mask"])
  assert sums["count"] == 11
  np.testing.assert_allclose(sums["loss"], np.sum(losses[mask]), rtol=1e-5)
  right = np.asarray(logits.argmax(-1) == tokens["labels"])
  assert sums["correct"] == np.sum(right[mask])
  np.testing.assert_allclose(sums["nonzero"], stats * 11, rtol=1e-5)
  _, metrics = step(state, tokens)
  unmasked = {"images": tokens["tokens"], "labels": tokens["labels"]}
  state, step = classifier()
  assert metrics["loss"] != step(state, unmasked)[1]["loss"]
  with pytest.raises(ValueError, match=r"mask must have the shape .* \(4, 7\)"):
    evaluate(state, tokens | {"mask": mask[0]}, 0.5)


def test_an_evaluation_takes_variables_and_lowers():
  state, _ = classifier()
  evaluate = sr.make_eval_step(Net().apply)
  sums = evaluate(state, CLASSES, 0.4)
  chex.assert_trees_all_equal(evaluate(state.variables, CLASSES, 0.4), sums)
  compiled = evaluate.lower(state, CLASSES, 0.4).compile()
  chex.assert_trees_all_equal(compiled(state, CLASSES, jnp.float32(0.4)), sums)


# --- Transformations and meshes ----------------------------------------------


@functools.cache
def expected_run():
  state, step = classifier()
  losses = []
  for _ in range(4):
    state, metrics = step(state, CLASSES)
    losses.append(metrics["loss"])
  return jax.device_get((losses, state.params, state.batch_stats))


def check_run(state, losses):
  chex.assert_trees_all_close(
    jax.device_get((losses, state.params, state.batch_stats)),
    expected_run(),
    rtol=2e-4,
    atol=2e-5,
  )
  assert state.controller_state.keep_ratio == pytest.approx(0.6**2)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("kind", "check_vma"), [(AxisType.Auto, False), (AxisType.Explicit, True)]
)
def test_shard_map(kind, check_vma):
  mesh = jax.make_mesh((8,), ("devices",), (kind,))
  state, step = classifier("devices")
  here, split = PartitionSpec(), PartitionSpec("devices")
  step = jax.jit(
    jax.shard_map(
      step,
      mesh=mesh,
      in_specs=(here, split),
      out_specs=here,
      check_vma=check_vma,
    )
  )
  batch = jax.device_put(CLASSES, NamedSharding(mesh, split))
  state = jax.device_put(state, NamedSharding(mesh, here))
  losses = []
  for _ in range(4):
    state, metrics = step(state, batch)
    losses.append(metrics["loss"])
  check_run(state, losses)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("mapped", "axis"), [(jax.pmap, "data"), (jax.vmap, "i")]
)
def test_pmap_and_vmap_over_an_axis(mapped, axis):
  state, step = classifier(axis)
  state = jax.tree.map(lambda x: jnp.stack([x] * 8), state)
  batch = jax.tree.map(lambda x: x.reshape(8, 4, *x.shape[1:]), CLASSES)
  step = mapped(step, axis_name=axis)
  losses = []
  for _ in range(4):
    state, metrics = step(state, batch)
    losses.append(metrics["loss"][0])
  check_run(jax.tree.map(lambda x: x[0], state), losses)


def test_devices_draw_of_their_own():
  def noisy(params, model_state, batch, *, keep_ratio, rng):
    drawn = jax.random.uniform(rng)
    # The mean over devices: were all the same, their spread would be 0.
    spread = jnp.square(drawn - jax.lax.pmean(drawn, "i"))
    return jnp.sum(params["a"]) * 0, {"metrics": {"spread": spread}}

  tx, controller = optax.sgd(0.1), by_loss()
  step = sr.make_step(noisy, tx, controller, axis_name="i", jit=False)
  state = jax.tree.map(lambda x: jnp.stack([x] * 4), start(tx, controller))
  _, metrics = jax.vmap(step, axis_name="i")(state, jnp.zeros(4))
  assert metrics["spread"][0] > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_jit_with_shardings(kind):
  mesh = jax.make_mesh((4, 2), ("batch", "model"), (kind,) * 2)
  state, step = classifier()
  rows = NamedSharding(mesh, PartitionSpec(("batch", "model")))
  batch = jax.device_put(CLASSES, rows)
  state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
  losses = []
  for _ in range(4):
    state, metrics = step(state, batch)
    losses.append(metrics["loss"])
  check_run(state, losses)
  evaluate = sr.make_eval_step(Net().apply)
  assert evaluate(state, batch, 0.3)["count"] == 32


@pytest.mark.slow
def test_compiled_ahead_exported_and_scanned():
  state, step = classifier(donate_state=False)
  compiled = step.lower(state, CLASSES).compile()
  _, ahead = compiled(state, CLASSES)
  # An exported program takes what it was made for, keys included.
  _, exported = jax.export.export(step)(state, CLASSES).call(state, CLASSES)
  chex.assert_trees_all_close(ahead, exported)
  _, scanned = jax.lax.scan(lambda s, _: step(s, CLASSES), state, length=4)
  np.testing.assert_allclose(scanned["loss"], expected_run()[0], rtol=1e-4)


@pytest.mark.slow
def test_seeds_and_hyper_parameters_side_by_side():
  def run(seed, tighten_pct):
    tx, controller = optax.sgd(0.1), by_loss(tighten_pct=tighten_pct)
    state = start(tx, controller).replace(rng=jax.random.key(seed))
    step = sr.make_step(loss_fn, tx, controller, jit=False)
    return jax.lax.scan(lambda s, _: step(s, BATCH), state, length=6)

  rates = jnp.array([0.1, 0.2, 0.3])
  state, metrics = jax.jit(jax.vmap(run))(jnp.arange(3), rates)
  assert metrics["loss"].shape == (3, 6)
  np.testing.assert_allclose(
    state.controller_state.keep_ratio, (1 - rates) ** 3, rtol=1e-5
  )
  with pytest.raises(ValueError, match=r"static_argnums is for jax\.jit"):
    sr.make_step(loss_fn, optax.sgd(1), by_loss(), jit=False, static_argnums=1)


# --- More of the same ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("check_vma", [True, False])
def test_a_loss_that_is_a_mean_over_devices_has_its_gradient(check_vma):
  """As one writes where devices have different numbers of labels."""
  mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))

  def mean_loss_fn(params, model_state, batch, *, keep_ratio, rng):
    loss, aux = loss_fn(params, {}, batch, keep_ratio=keep_ratio, rng=rng)
    return jax.lax.psum(4 * loss, "d") / jax.lax.psum(4, "d"), aux

  tx, controller = optax.sgd(0.1), controllers.constant(0.5)
  here, split = PartitionSpec(), PartitionSpec("d")
  found = []
  for fn in (mean_loss_fn, loss_fn):
    step = sr.make_step(fn, tx, controller, axis_name="d", jit=False)
    mapped = jax.shard_map(
      step,
      mesh=mesh,
      in_specs=(here, split),
      out_specs=here,
      check_vma=check_vma,
    )
    found.append(jax.jit(mapped)(start(tx, controller), BATCH)[0].params)
  one = sr.make_step(loss_fn, tx, controller)(start(tx, controller), BATCH)
  for params in found:
    chex.assert_trees_all_close(params, one[0].params, rtol=1e-5, atol=1e-6)


def test_a_batch_of_which_nothing_counts_is_skipped():
  state, step = classifier(donate_state=False)
  after, metrics = step(state, CLASSES | {"mask": jnp.zeros(32, bool)})
  assert metrics["skipped"] == 1
  chex.assert_trees_all_equal(after.params, state.params)
  chex.assert_trees_all_equal(after.controller_state, state.controller_state)


def test_what_does_not_count_may_be_anything():
  images = jnp.where(jnp.arange(32)[:, None] < 16, X, jnp.nan)
  mask = jnp.arange(32) < 16

  def apply_fn(variables, images, keep_ratio, **_):
    return (images @ variables["params"], jnp.ones(1)), {}

  tx, controller = optax.sgd(0.1), controllers.strategy1()
  variables = {"params": jnp.zeros((6, 10))}
  state = sr.TrainState.create(variables, tx=tx, controller=controller, rng=KEY)
  step = sr.make_train_step(apply_fn, tx, controller, donate_state=False)
  # Its weights get no gradient from rows whose images are finite alone.
  _, metrics = step(state, CLASSES | {"images": X, "mask": mask})
  assert metrics["skipped"] == 0
  evaluate = sr.make_eval_step(lambda *a, train: apply_fn(*a)[0])
  sums = evaluate(variables, CLASSES | {"images": images, "mask": mask}, 1.0)
  assert np.isfinite(sums["loss"])
  assert sums["count"] == 16


def test_weights_are_weights_in_an_evaluation_too():
  state, _ = classifier()
  evaluate = sr.make_eval_step(Net().apply)
  weights = jnp.where(jnp.arange(32) < 2, 0.5, 0.0)
  whole = evaluate(state, CLASSES | {"mask": jnp.arange(32) < 2}, 1.0)
  half = evaluate(state, CLASSES | {"mask": weights}, 1.0)
  assert half["count"] == 1
  np.testing.assert_allclose(half["loss"], whole["loss"] / 2, rtol=1e-6)


@pytest.mark.parametrize(
  ("losses", "masked"),
  [
    (lambda logits, labels: jnp.zeros((32, 1)), False),
    (lambda logits, labels: logits, False),
    (lambda logits, labels: jnp.zeros(()), True),
  ],
)
def test_losses_of_another_shape_are_named(losses, masked):
  state, step = classifier(loss_fn=losses)
  batch = CLASSES | ({"mask": jnp.ones(32)} if masked else {})
  evaluate = sr.make_eval_step(Net().apply, loss_fn=losses)
  for call in (
    lambda: step(state, batch),
    lambda: evaluate(state, batch, 1.0),
  ):
    with pytest.raises(ValueError, match=r"each label, of shape \(32,\), got"):
      call()


def test_one_class_is_none():
  with pytest.raises(ValueError, match="of two classes or more; got int32"):
    sr.make_eval_step(lambda v, x, r, train: (x[:, :1], jnp.ones(1)))(
      {}, {"images": X, "labels": jnp.ones((32, 1), jnp.int32)}, 1.0
    )


@pytest.mark.parametrize(
  ("aux", "message"),
  [
    ({"signals": {"loss": 1.0}}, "aux must not have loss: the step says"),
    ({"metrics": {"skipped": 1.0}}, "aux must not have skipped: the step"),
    (None, r"must return \(loss, aux\), got a .*Tracer"),
  ],
)
def test_what_the_step_says_is_not_said_otherwise(aux, message):
  def bad(params, model_state, batch, *, keep_ratio, rng):
    loss = jnp.sum(params["a"])
    return loss if aux is None else (loss, aux)

  tx, controller = optax.sgd(0.1), by_loss()
  with pytest.raises(ValueError, match=message):
    sr.make_step(bad, tx, controller)(start(tx, controller), BATCH)


@pytest.mark.slow
def test_an_optimizer_inside_another_gets_what_it_takes():
  def sam():
    return contrib.sam(optax.sgd(0.05), contrib.normalize(), sync_period=2)

  for tx in (
    optax.MultiSteps(sam(), 2),
    optax.chain(optax.clip(1.0), sam()),
  ):
    controller = by_loss()
    with jax.numpy_dtype_promotion("standard"):
      _, metrics = sr.make_step(loss_fn, tx, controller)(
        start(tx, controller), BATCH
      )
    assert metrics["skipped"] == 0


def test_a_replaced_state_has_no_aliases():
  tx, controller = optax.sgd(0.1), controllers.constant()
  state = start(tx, controller)
  state = state.replace(extra=state.params)
  after, _ = sr.make_step(loss_fn, tx, controller)(state, BATCH)
  np.testing.assert_array_equal(after.extra["a"], PARAMS["a"])
  with pytest.raises(ValueError, match="rng must be a key of jax"):
    start(tx, controller).create(
      {"params": PARAMS}, tx=tx, controller=controller, rng=0
    )


# --- Edges --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, jnp.float32, jnp.int32])
@pytest.mark.parametrize("nobody", [-100, 255])
def test_a_label_that_does_not_count_may_be_of_no_class(dtype, nobody):
  labels = jnp.where(jnp.arange(32) < 5, jnp.arange(32), nobody)
  batch = CLASSES | {"labels": labels, "mask": (labels < 5) & (labels >= 0)}
  batch["mask"] = batch["mask"].astype(dtype)
  right = {name: value[:5] for name, value in batch.items()}
  del right["mask"]

  def apply_fn(variables, images, keep_ratio, **_):
    return (images @ variables["params"], jnp.ones(1)), {}

  tx, controller = optax.sgd(0.1), controllers.constant()
  variables = {"params": jax.random.normal(KEY, (6, 10))}
  state = sr.TrainState.create(variables, tx=tx, controller=controller, rng=KEY)
  # Op by op, too, where no compiler makes 0 of 0 times NaN.
  for jit in (True, False):
    step = sr.make_train_step(
      apply_fn,
      tx,
      controller,
      **({"donate_state": False} if jit else {}),
      jit=jit,
    )
    _, metrics = step(state, batch)
    assert metrics["loss"] == pytest.approx(step(state, right)[1]["loss"])
    assert metrics["skipped"] == 0
  evaluate = sr.make_eval_step(lambda *a, train: apply_fn(*a)[0])
  chex.assert_trees_all_close(
    evaluate(variables, batch, 1.0), evaluate(variables, right, 1.0), rtol=1e-6
  )


def test_whole_weights_are_weights():
  state, _ = classifier()
  evaluate = sr.make_eval_step(Net().apply)
  weights = jnp.arange(32) % 4
  whole = evaluate(state, CLASSES | {"mask": weights}, 1.0)
  floats = evaluate(state, CLASSES | {"mask": weights.astype(jnp.float32)}, 1.0)
  chex.assert_trees_all_close(whole, floats, rtol=1e-6)
  assert whole["count"] == 48


@pytest.mark.slow
def test_arrays_that_are_not_on_the_mesh_in_force():
  tx, controller = optax.sgd(0.1), controllers.constant(0.4)
  _, wanted = sr.make_step(loss_fn, tx, controller)(
    start(tx, controller), BATCH
  )
  state = start(tx, controller)
  with jax.set_mesh(jax.make_mesh((4, 2), ("a", "b"))):
    step = sr.make_step(loss_fn, tx, controller)
    _, metrics = step(state, jax.tree.map(np.asarray, BATCH))
  np.testing.assert_allclose(metrics["loss"], wanted["loss"], rtol=1e-6)


def test_what_makers_hold_is_not_given_away():
  tx = optax.inject_hyperparams(optax.sgd)(learning_rate=jnp.float32(0.1))
  ratio = jnp.float32(0.5)
  controller = controllers.constant(ratio)
  for _ in range(2):
    state, _ = sr.make_step(loss_fn, tx, controller)(
      start(tx, controller), BATCH
    )
  assert state.controller_state.keep_ratio == ratio == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("check_vma", [True, False])
def test_a_loss_that_is_a_mean_over_one_of_two_axes(check_vma):
  mesh = jax.make_mesh((4, 2), ("p", "q"), (AxisType.Auto,) * 2)

  def partly_mean(params, model_state, batch, *, keep_ratio, rng):
    loss, aux = loss_fn(params, {}, batch, keep_ratio=keep_ratio, rng=rng)
    return jax.lax.pmean(loss, "p"), aux

  tx, controller = optax.sgd(0.1), controllers.constant(0.5)
  step = sr.make_step(
    partly_mean, tx, controller, axis_name=("p", "q"), jit=False
  )
  here, split = PartitionSpec(), PartitionSpec(("p", "q"))
  mapped = jax.shard_map(
    step,
    mesh=mesh,
    in_specs=(here, split),
    out_specs=here,
    check_vma=check_vma,
  )
  found = jax.jit(mapped)(start(tx, controller), BATCH)[0].params
  one = sr.make_step(loss_fn, tx, controller)(start(tx, controller), BATCH)
  chex.assert_trees_all_close(found, one[0].params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  "stats", [(jnp.ones(()),), {}, None, {"a": {"b": jnp.ones(())}}, jnp.ones(())]
)
def test_stats_that_are_none_are_named(stats):
  tx, controller = optax.sgd(0.1), controllers.constant()
  variables = {"params": jnp.zeros((6, 10))}
  state = sr.TrainState.create(variables, tx=tx, controller=controller, rng=KEY)
  step = sr.make_train_step(
    lambda v, x, r, **_: ((x @ v["params"], stats), {}), tx, controller
  )
  with pytest.raises(ValueError, match=r"return \(logits, stats\), of which"):
    step(state, CLASSES)


@pytest.mark.parametrize("size", [2, 5])
def test_a_network_that_returns_logits_alone_is_told_so(size):
  tx, controller = optax.sgd(0.1), controllers.constant()
  variables = {"params": jnp.zeros((6, 10))}
  state = sr.TrainState.create(variables, tx=tx, controller=controller, rng=KEY)
  batch = {"images": jnp.ones((size, 6)), "labels": jnp.zeros(size, jnp.int32)}

  def apply_fn(variables, x, keep_ratio, *, train, **_):
    logits = x @ variables["params"]
    return (logits, {}) if train else logits

  told = rf"must return \(logits, stats\), .*, got \({size}, 10\) in shapes"
  with pytest.raises(ValueError, match=told):
    sr.make_train_step(apply_fn, tx, controller)(state, batch)
  with pytest.raises(ValueError, match=told):
    sr.make_eval_step(apply_fn)(state, batch, 1.0)


def test_more_budgets_than_sites_are_an_error():
  tx, controller = optax.sgd(0.1), controllers.constant((0.1, 0.2, 0.3))
  state = sr.TrainState.create(
    init(Net(), X), tx=tx, controller=controller, rng=KEY
  )

  def first_alone(variables, images, keep_ratio, **arguments):
    return Net().apply(variables, images, keep_ratio[0], **arguments)

  with pytest.raises(ValueError, match=r"each of 1 sites, got shape \(3,\)"):
    sr.make_train_step(first_alone, tx, controller)(state, CLASSES)


def test_the_loss_is_float32_and_a_signal_may_be_called_state():
  def half(params, model_state, batch, *, keep_ratio, rng):
    loss = jnp.sum(params["a"]).astype(jnp.bfloat16)
    return loss, {"signals": {"state": 1.0}}

  tx, controller = optax.sgd(0.1), controllers.constant()
  _, metrics = sr.make_step(half, tx, controller)(start(tx, controller), BATCH)
  assert metrics["loss"].dtype == jnp.float32


def test_a_controller_s_faults_are_named():
  tx = optax.sgd(0.1)
  controller = sr.Controller(lambda: {"budget": jnp.ones(())}, lambda s, **_: s)
  with pytest.raises(ValueError, match="must have keep_ratio, the budget in"):
    sr.make_step(loss_fn, tx, controller)(start(tx, controller), BATCH)

  class Whole(flax.struct.PyTreeNode):
    keep_ratio: jax.Array

  controller = controllers.guarded(
    lambda: Whole(1), lambda state, *, loss: Whole(0.5)
  )
  with pytest.raises(ValueError, match="got float32 for int32: give init"):
    controller.update(controller.init(), loss=1.0)
  many = controllers.strategy1(signal="stats")
  with pytest.raises(ValueError, match=r"'stats' must be a scalar, got \(2,\)"):
    many.update(many.init(), stats=jnp.ones(2))


def test_what_is_not_finite_is_skipped_unless_told_otherwise():
  tx, controller = optax.sgd(0.1), controllers.constant(1.0)

  def loss_fn(params, model_state, batch, *, keep_ratio, rng):
    # Finite, with a gradient that is not.
    return jnp.sum(jnp.sqrt(params["a"]) * batch), {}

  state = sr.TrainState.create(
    {"params": {"a": jnp.zeros(3)}},
    tx=tx,
    controller=controller,
    rng=jax.random.key(0),
  )
  for skips in (True, False):
    step = sr.make_step(
      loss_fn, tx, controller, skip_nonfinite=skips, donate_state=False
    )
    new, metrics = step(state, jnp.ones(3))
    assert metrics["skipped"] == float(skips)
    assert jnp.all(jnp.isfinite(new.params["a"])) == skips


@pytest.mark.parametrize("where", ["grads", "params", "moment", "other"])
def test_every_number_of_a_step_is_looked_at(where):
  tree = {"a": jnp.ones((2, 3)), "b": jnp.ones(3)}
  state = (tree, jnp.ones(4), jnp.asarray(jnp.inf))
  fine = Learned(tree, {"mean": jnp.ones(3)}, state)
  loss = jnp.ones(())
  assert stays_finite(loss, tree, fine, fine)
  assert not stays_finite(loss * jnp.nan, tree, fine, fine)
  bad = tree | {"a": tree["a"].at[1, 2].set(jnp.inf)}
  new, grads = fine, tree
  if where == "grads":
    grads = bad
  elif where == "params":
    new = fine._replace(params=bad)
  elif where == "moment":
    new = fine._replace(opt_state=(bad, *state[1:]))
  else:
    new = fine._replace(opt_state=(tree, jnp.full(4, jnp.nan), state[2]))
  assert not stays_finite(loss, grads, new, fine)
  if where in ("moment", "other"):
    # What was not finite before may stay so.
    assert stays_finite(loss, grads, new, new)


@pytest.mark.parametrize("given", [controllers.strategy1, 0.5])
def test_what_is_no_controller_is_told(given):
  with pytest.raises(ValueError, match=r"controller must be one, such as"):
    sr.TrainState.create(
      {"params": jnp.ones(2)},
      tx=optax.sgd(0.1),
      controller=given,
      rng=jax.random.key(0),
    )
