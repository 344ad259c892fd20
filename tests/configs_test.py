"""Every shipped config loads, says what it must, and takes a step."""

import ast
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes import make_train_step
from sparse_regimes.data import mini
from sparse_regimes.data.dataset import normalize
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.makers import task_class
from sparse_regimes.runs.task import make_task

SHIPPED = configs.shipped_configs()
if importlib.util.find_spec("gymnax") is None:
  SHIPPED = {n: path for n, path in SHIPPED.items() if "ppo_" not in n}


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
  notebook = ast.get_docstring(ast.parse(SHIPPED[name].read_text()))
  for heading in ("Claim:", "Command:", "Cost:", "Expected:"):
    assert heading in notebook
  assert f"configs/{name}.py" in notebook or f"make {name}" in notebook


# Of the same kind, but they compile in seconds here.
SMALL = {
  "wide_resnet": ["model.depth=10", "model.widen=1"],
  "vision_transformer": ["model.depth=1", "model.width=24", "model.heads=2"],
  "residual_mlp": ["model.depth=1", "model.width=24"],
  "actor_critic": ["model.width=8", "task.num_steps=8"],
  "transformer": ["model.depth=1", "model.width=24", "task.context=8"],
}


def load(name):
  # A fine-tuning wants to know of what.
  start = ["train.start_from=a_run"] * name.endswith("vit_sparse_finetune")
  model = configs.load(name, start).model.name
  return configs.load(name, [*SMALL[model], *start])


@functools.cache
def few_images():
  data = mini.load()
  return data.train_images[:8, :8, :8], data.train_labels[:8]


def step_of(config):
  """A train step, and a function that makes its state and its batch."""
  if config.task.name != "classification":
    return step_of_another_task(config)
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=10)
  train_step = make_train_step(
    parts.model.apply, parts.tx, parts.controller, preprocess=normalize
  )

  def arguments():
    images, labels = few_images()
    state = factory.make_state(config, parts, (8, 8, 3))
    return state, {"images": jnp.asarray(images), "labels": jnp.asarray(labels)}

  return train_step, arguments


def step_of_another_task(config):
  task = make_task(config, print)
  parts = factory.make_parts(config, steps_per_epoch=10, **task.arguments)
  examples = {n: jnp.asarray(x[:8]) for n, x in task.train_examples.items()}

  def arguments():
    batch = task.batch(examples, jnp.arange(8))
    return factory.make_state(config, parts, task.inputs, task), batch

  return task.train_step(*parts[:1], parts.tx, parts.controller), arguments


def promotion(config):
  """Optax's Adam promotes types by itself."""
  strict = config.optimizer.name == "sgd"
  return jax.numpy_dtype_promotion("strict" if strict else "standard")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_its_step_can_be_traced(name):
  config = load(name)
  train_step, arguments = step_of(config)
  with promotion(config):
    before = jax.eval_shape(arguments)
    after, metrics = jax.eval_shape(train_step, *before)
  # The state can go in again, and is not all that comes out.
  assert after == before[0]
  metric = task_class(config.task.name).metric
  assert {"loss", metric, "nonzero", "keep_ratio"} <= set(metrics)


# Every network, optimizer and module is among them; controllers are compiled
# in controllers/contract_test.
STEPS = (
  *("wrn_strategy1", "wrn_shuffled", "wrn_regularised", "vit_noise"),
  *("vit_sparse_finetune", "mlp_sparse", "cpu_mlp_shifted"),
  *("lm_dropout", "lm_quickstart", "ppo_cartpole_dense", "ppo_breakout_dense"),
)
STEPS = tuple(name for name in STEPS if name in SHIPPED)


def kinds(config):
  """What makes the code of a step another one."""
  model = config.model
  yield model.name
  yield config.optimizer.name, config.optimizer.schedule
  for name in ("norm", "activation", "score", "zeroth_bias", "scope"):
    yield name, model.get(name)
  for name in ("noise", "dropout", "shift_x", "mix_steps"):
    yield name, bool(model.get(name))
  yield "weight decay", bool(config.optimizer.weight_decay)
  yield "shuffled", bool(config.signal.shuffle_window)
  yield "clipped", bool(config.optimizer.clip_norm)


def test_of_every_kind_one_is_compiled():
  compiled = {kind for name in STEPS for kind in kinds(load(name))}
  for name in SHIPPED:
    assert set(kinds(load(name))) <= compiled, name


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_it_takes_a_step(name):
  config = load(name)
  train_step, arguments = step_of(config)
  with promotion(config):
    state, batch = arguments()
    before = jax.device_get(state.params)
    state, metrics = train_step(state, batch)
  assert np.isfinite(metrics["loss"])
  moved = jax.tree.map(
    lambda old, new: not np.array_equal(old, new), before, state.params
  )
  assert any(jax.tree.leaves(moved))


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
