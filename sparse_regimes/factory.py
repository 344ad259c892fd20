"""The one place where a config's strings become objects."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from sparse_regimes import controllers, optimizer
from sparse_regimes.controllers import Controller
from sparse_regimes.data import cifar10, mini
from sparse_regimes.data.dataset import Dataset
from sparse_regimes.errors import InputError, one_of
from sparse_regimes.models.wide_resnet import WideResNet
from sparse_regimes.state import TrainState

CONTROLLERS: dict[str, Callable[..., Controller]] = {
  "constant": controllers.constant,
  "cosine": controllers.cosine,
  "random_ratio": controllers.random_ratio,
  "strategy1": controllers.strategy1,
  "strategy2": controllers.strategy2,
}
MODELS: dict[str, Callable[..., nn.Module]] = {"wide_resnet": WideResNet}
# Names, and how many training images each has.
DATASETS = {"cifar10": 50_000, "cifar10_mini": 1_280}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def make_controller(config: ConfigDict) -> Controller:
  """The controller of ``config.controller``."""
  with _section("controller"):
    return _named(CONTROLLERS, **config.controller)


def make_model(
  config: ConfigDict, *, num_classes: int, platform: str
) -> nn.Module:
  """The network of ``config.model``, computing in the platform's dtype.

  Args:
    config: the whole config; ``model.dtype`` is ``float32``, ``bfloat16`` or
      ``auto``: float32 on CPU, bfloat16 elsewhere. Parameters are float32.
    num_classes: of the data.
    platform: ``jax.default_backend()``.
  """
  with _section("model"):
    arguments = config.model.to_dict()
    dtype = one_of("dtype", arguments.pop("dtype"), ("auto", *DTYPES))
    if dtype == "auto":
      dtype = "float32" if platform == "cpu" else "bfloat16"
    return _named(
      MODELS, num_classes=num_classes, dtype=DTYPES[dtype], **arguments
    )


def make_schedule(
  config: ConfigDict, *, steps_per_epoch: int
) -> optax.Schedule:
  """The learning rate of ``config.optimizer`` by step.

  With ``reference_batch_size`` above 0 the rate is scaled by the batch size
  over it.
  """
  cfg = config.optimizer
  scale = 1.0
  if cfg.reference_batch_size:
    scale = config.train.batch_size / cfg.reference_batch_size
  with _section("optimizer"):
    return optimizer.learning_rate_schedule(
      cfg.schedule,
      learning_rate=cfg.learning_rate * scale,
      epochs=config.train.epochs,
      steps_per_epoch=steps_per_epoch,
      per_step=cfg.per_step,
      milestones=cfg.milestones,
      decay_factor=cfg.decay_factor,
    )


def make_optimizer(
  config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
  """The optimizer of ``config.optimizer`` at the rates of ``schedule``."""
  cfg = config.optimizer
  with _section("optimizer"):
    return optimizer.sgd(
      schedule,
      momentum=cfg.momentum,
      nesterov=cfg.nesterov,
      weight_decay=cfg.weight_decay,
    )


class Parts(NamedTuple):
  """The static objects of a run, which its steps close over."""

  model: nn.Module
  controller: Controller
  schedule: optax.Schedule
  tx: optax.GradientTransformation


def make_parts(
  config: ConfigDict, *, num_classes: int, steps_per_epoch: int
) -> Parts:
  """All static objects of a run, for the platform JAX runs on.

  Raises:
    InputError: naming the field, what it got and what it takes.
  """
  schedule = make_schedule(config, steps_per_epoch=steps_per_epoch)
  return Parts(
    model=make_model(
      config, num_classes=num_classes, platform=jax.default_backend()
    ),
    controller=make_controller(config),
    schedule=schedule,
    tx=make_optimizer(config, schedule),
  )


def make_state(
  config: ConfigDict, parts: Parts, image_shape: tuple[int, ...]
) -> TrainState:
  """The state before the first step; the seed alone decides it."""
  init_rng, run_rng = jax.random.split(jax.random.key(config.seed))
  init = jax.jit(parts.model.init)
  return TrainState.create(
    init(init_rng, jnp.zeros((1, *image_shape)), 1.0),
    tx=parts.tx,
    controller=parts.controller,
    rng=run_rng,
  )


def make_data(config: ConfigDict, log: Callable[[str], None]) -> Dataset:
  """The dataset of ``config.data``, fetched if it has to be."""
  with _section("data"):
    name = one_of("name", config.data.name, DATASETS)
  if name == "cifar10_mini":
    return mini.load()
  return cifar10.load(config.data.dir or None, log=log)


def check(config: ConfigDict) -> None:
  """Builds everything that needs no data, so that mistakes show at once.

  Raises:
    InputError: naming the field, what it got and what it takes.
  """
  make_parts(config, num_classes=1, steps_per_epoch=1)
  with _section("data"):
    num_examples = DATASETS[one_of("name", config.data.name, DATASETS)]
  if config.train.batch_size > num_examples:
    raise InputError(
      f"train.batch_size must be at most the {num_examples} training images of"
      f" {config.data.name}, got {config.train.batch_size}"
    )


def _named(makers: dict[str, Callable[..., Any]], name: str, **arguments: Any):
  return makers[one_of("name", name, makers)](**arguments)


@contextlib.contextmanager
def _section(section: str) -> Iterator[None]:
  """Turns "keep_min must be ..." into an error about section.keep_min."""
  try:
    yield
  except InputError:
    raise
  except ValueError as error:
    raise InputError(f"{section}.{error}") from error
