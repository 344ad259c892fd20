import jax
import jax.numpy as jnp
import pytest

from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.epoch import default_steps_per_call


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
  assert default_steps_per_call("cpu", 390) == 1
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
  assert factory.num_examples(config) == (1024, 256)
