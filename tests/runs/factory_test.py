import jax
import jax.numpy as jnp
import pytest

from sparse_regimes.controllers import innermost
from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.epoch import default_steps_per_call
from sparse_regimes.tasks.classification import splits


@pytest.mark.parametrize(
  ("dtype", "platform", "expected"),
  [
    ("auto", "cpu", jnp.float32),
    ("auto", "gpu", jnp.bfloat16),
    ("auto", "tpu", jnp.bfloat16),
    ("float32", "tpu", jnp.float32),
    ("bfloat16", "cpu", jnp.bfloat16),
  ],
)
def test_compute_dtype(dtype, platform, expected):
  config = configs.load("wrn_strategy1", [f"model.dtype={dtype}"])
  model = factory.make_model(config, num_classes=10, platform=platform)
  assert model.dtype == expected


def test_steps_per_call():
  assert default_steps_per_call("cpu", 390, convolves=True) == 1
  assert default_steps_per_call("cpu", 390) == 6
  assert default_steps_per_call("cpu", 397) == 8
  assert default_steps_per_call("cpu", 3) == 3
  assert default_steps_per_call("cpu", 390, multiply_adds=6e9) == 3
  assert default_steps_per_call("cpu", 390, multiply_adds=1e12) == 1
  assert default_steps_per_call("tpu", 390, every_steps=20) == 15
  assert default_steps_per_call("tpu", 390) == 78
  assert default_steps_per_call("gpu", 40) == 40
  assert default_steps_per_call("gpu", 397) == 100  # a prime


def test_the_learning_rate_scales_with_the_batch():
  for size, expected in ((128, 0.1), (512, 0.4)):
    config = configs.load("wrn_strategy1", [f"train.batch_size={size}"])
    schedule = factory.make_schedule(config, steps_per_epoch=10)
    assert schedule(0) == pytest.approx(expected)
  config = configs.load(
    "wrn_strategy1",
    ["train.batch_size=512", "optimizer.reference_batch_size=0"],
  )
  schedule = factory.make_schedule(config, steps_per_epoch=10)
  assert schedule(0) == pytest.approx(0.1)


def test_the_seed_decides_the_parameters():
  def kernel(seed):
    config = configs.load("smoke", [f"seed={seed}"])
    parts = factory.make_parts(config, num_classes=10, steps_per_epoch=1)
    state = factory.make_state(config, parts, (8, 8, 3))
    return jax.device_get(state.params["head"]["kernel"])

  assert (kernel(1) == kernel(1)).all()
  assert (kernel(1) != kernel(2)).any()


def test_training_leaves_what_validation_needs():
  arguments = ["data.evaluate_on=validation", "data.num_test=256"]
  with pytest.raises(
    InputError, match=r"data\.num_train must leave 256 of the"
  ):
    configs.load("smoke", [*arguments, "data.num_train=1025"])
  config = configs.load("smoke", [*arguments, "data.num_train=1024"])
  assert splits.num_examples(config, (1280, 256)) == (1024, 256)


@pytest.mark.parametrize(
  ("name", "field", "value"),
  [
    ("adamw", "weight_decay", 0.0001),
    ("lion", "b2", 0.99),
    ("prodigy", "estim_lr_coef", 1.0),
  ],
)
def test_an_optimizer_of_optax_has_its_own_arguments(name, field, value):
  config = configs.load("wrn_strategy1", [f"optimizer.name={name}"])
  assert config.optimizer[field] == value
  assert "momentum" not in config.optimizer
  changed = [f"optimizer.name={name}", f"optimizer.{field}=0.5"]
  assert configs.load("smoke", changed).optimizer[field] == 0.5
  with jax.numpy_dtype_promotion("standard"):
    parts = factory.make_parts(config, num_classes=10, steps_per_epoch=1)
    params = {"w": jnp.ones(3)}
    updates, _ = parts.tx.update(params, parts.tx.init(params), params)
  assert jnp.all(updates["w"] <= 0)


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("name=adamv", r"takes a learning_rate, got 'adamv'; did you mean"),
    ("name=chain", "that takes a learning_rate, got 'chain'"),
    ("momentum=0.9", "optimizer has no field 'momentum'"),
  ],
)
def test_an_optimizer_that_is_none(override, message):
  with pytest.raises(InputError, match=message):
    configs.load("smoke", ["optimizer.name=adamw", f"optimizer.{override}"])


def test_augmentation_out_of_range_is_named():
  with pytest.raises(InputError, match=r"augment.label_smoothing must be in"):
    configs.load("smoke", ["augment.label_smoothing=1.5"])


@pytest.mark.parametrize(
  ("overrides", "line"),
  [
    (["signal.average_over=-1"], "signal.average_over must be in"),
    (
      ["signal.average_over=3", "controller.decide_every=10"],
      "signal.average_over must divide the controller's 10 steps",
    ),
    (
      ["signal.average_over=2", "controller.name=ssd_switch"],
      "signal.average_over must be 0 where ssd_switch follows stats",
    ),
  ],
)
def test_a_mean_that_no_decision_would_rest_on(overrides, line):
  with pytest.raises(InputError, match=line):
    made_of(overrides)


def made_of(overrides):
  config = configs.load("wrn_strategy1", overrides)
  return factory.make_parts(config, num_classes=10, steps_per_epoch=10)


def test_a_controller_that_hears_means():
  config = configs.load(
    "wrn_strategy1",
    [
      *("controller.decide_every=4", "signal.average_over=4"),
      "controller.ema_beta=0.0",
    ],
  )
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=10)
  state = parts.controller.init()
  for accuracy in (0.0, 0.5, 0.5, 1.0):
    state = parts.controller.update(state, accuracy=jnp.float32(accuracy))
  assert innermost(state).ema == 0.5
