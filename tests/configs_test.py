"""Every shipped config loads, says what it must, and takes a step."""

import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes import config as configs
from sparse_regimes import factory, make_train_step
from sparse_regimes.data import mini
from sparse_regimes.data.dataset import normalize

SHIPPED = configs.shipped_configs()


def test_the_promised_configs_are_there():
  assert set(SHIPPED) >= {
    "quickstart",
    "smoke",
    "wrn_dense",
    "wrn_fixed",
    "wrn_strategy1",
    "wrn_strategy2",
  }


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_a_lab_notebook(name):
  notebook = runpy.run_path(str(SHIPPED[name]))["__doc__"]
  for heading in ("Claim:", "Command:", "Cost:", "Expected:"):
    assert heading in notebook
  assert f"configs/{name}.py" in notebook or f"make {name}" in notebook


# Of the same kind, but they compile in seconds here.
SMALL = {
  "wide_resnet": ["model.depth=10", "model.widen=1"],
  "vision_transformer": ["model.depth=2", "model.width=24", "model.heads=2"],
  "residual_mlp": ["model.depth=2", "model.width=24"],
}


# A fine-tuning wants to know of what.
START = ["train.start_from=a_run"]


@pytest.mark.parametrize("name", SHIPPED)
def test_it_takes_a_step(name):
  start = START if name.endswith("vit_sparse_finetune") else []
  model = configs.load(name, start).model.name
  config = configs.load(name, [*SMALL[model], *start])
  # Optax's Adam promotes types by itself.
  promotion = "strict" if config.optimizer.name == "sgd" else "standard"
  with jax.numpy_dtype_promotion(promotion):
    take_a_step(config)


def take_a_step(config):
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=10)
  state = factory.make_state(config, parts, (8, 8, 3))
  before = jax.device_get(state.params["head"]["kernel"])
  train_step = make_train_step(
    parts.model.apply, parts.tx, parts.controller, preprocess=normalize
  )
  data = mini.load()
  batch = {
    "images": jnp.asarray(data.train_images[:8, :8, :8]),
    "labels": jnp.asarray(data.train_labels[:8]),
  }
  state, metrics = train_step(state, batch)
  assert np.isfinite(metrics["loss"])
  assert not np.array_equal(before, state.params["head"]["kernel"])


def test_the_papers_run():
  config = configs.load("wrn_strategy1")
  assert (config.model.depth, config.model.widen) == (28, 4)
  assert (config.train.epochs, config.train.batch_size) == (500, 128)
  assert (
    config.controller.to_dict()
    == configs.load(
      "wrn_dense", ["controller.name=strategy1"]
    ).controller.to_dict()
  )  # the released values are strategy1's defaults
