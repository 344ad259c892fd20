"""The one place where a config's strings become objects."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from sparse_regimes import controllers
from sparse_regimes.controllers import Controller
from sparse_regimes.controllers.bounds import MAX_COUNT
from sparse_regimes.data import named
from sparse_regimes.data.dataset import Dataset
from sparse_regimes.errors import InputError, in_range, one_of
from sparse_regimes.masks.sites import check_sites
from sparse_regimes.masks.statistics import Arithmetic
from sparse_regimes.runs import loggers
from sparse_regimes.runs.makers import (
  maker,
  optimizer_arguments,
  optimizer_maker,
  section_of,
)
from sparse_regimes.training import optimizer, projections
from sparse_regimes.training.augment import LossFn, augmented
from sparse_regimes.training.classification import classification_loss
from sparse_regimes.training.state import TrainState

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def make_controller(config: ConfigDict) -> Controller:
  """The controller of ``config.controller``, watched for a collapse.

  What it draws depends on the run's seed, too, so that no two seeds share it.
  With ``signal.shuffle_window`` above 0 it hears of accuracy at random times.
  """
  with section_of("controller"):
    given = config.controller.to_dict()
    if "draw_seed" in given:
      in_range("draw_seed", given["draw_seed"], 0, MAX_COUNT)
      given["draw_seed"] = _seed(config, given["draw_seed"])
    controller = maker("controller", given.pop("name"))(**given)
    if not isinstance(controller, Controller):
      raise ValueError(
        f"name: {config.controller.name} must make a Controller, got"
        f" {type(controller).__name__}"
      )
  if config.signal.shuffle_window:
    with section_of("signal"):
      in_range("shuffle_window", config.signal.shuffle_window, 0, 10**6)
      in_range("shuffle_seed", config.signal.shuffle_seed, 0, MAX_COUNT)
    controller = controllers.shuffled(
      controller,
      window=config.signal.shuffle_window,
      draw_seed=_seed(config, config.signal.shuffle_seed),
      signal=config.controller.get("signal", "accuracy"),
    )
  with section_of("collapse"):
    decisions = in_range("decisions", config.collapse.decisions, 1, 10**6)
    patience = decisions * config.controller.get("decide_every", 1)
    return controllers.watched(
      controller,
      patience=min(patience, MAX_COUNT),
      drop_tol=config.collapse.drop_tol,
    )


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
  with section_of("model"):
    given = config.model.to_dict()
    make = maker("model", given.pop("name"))
    if "dtype" in given:
      dtype = one_of("dtype", given["dtype"], ("auto", *DTYPES))
      if dtype == "auto":
        dtype = "float32" if platform == "cpu" else "bfloat16"
      given["dtype"] = DTYPES[dtype]
    if "num_classes" in inspect.signature(make).parameters:
      given["num_classes"] = num_classes
    return make(**given)


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
  with section_of("optimizer"):
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
  config: ConfigDict,
  schedule: optax.Schedule,
  model: nn.Module,
  *,
  steps_per_epoch: int,
) -> optax.GradientTransformation:
  """The optimizer of ``config.optimizer`` at the rates of ``schedule``.

  Behind it come the projections that the model's modules want.
  """
  cfg = config.optimizer
  rate = 1.0 if cfg.restart_at_resets else schedule
  with section_of("optimizer"):
    in_range("clip_norm", cfg.clip_norm, 0)
    in_range("zeroth_bias_bound", cfg.zeroth_bias_bound, 0)
    in_range("uplift_steps", cfg.uplift_steps, 0, MAX_COUNT)
    if cfg.name == "sgd":
      tx = optimizer.sgd(
        rate,
        momentum=cfg.momentum,
        nesterov=cfg.nesterov,
        weight_decay=cfg.weight_decay,
      )
    elif cfg.name == "adam":
      tx = optimizer.adam(
        rate,
        beta1=cfg.momentum,
        beta2=cfg.beta2,
        weight_decay=cfg.weight_decay,
      )
    else:
      given = {f: cfg[f] for f in optimizer_arguments(cfg.name)}
      tx = optimizer_maker(cfg.name)(learning_rate=rate, **given)
  if cfg.clip_norm:
    tx = optax.chain(optax.clip_by_global_norm(cfg.clip_norm), tx)
  if cfg.restart_at_resets:
    num_steps = config.train.epochs * steps_per_epoch
    tx = optax.chain(tx, optimizer.warm_restarts(schedule, num_steps))
  # What it goes back to is projected as any update is.
  chain = [optimizer.rollback(tx) if cfg.rollback else tx]
  scales = getattr(model, "restricted_scales", ())
  if scales:
    steps = cfg.uplift_steps
    chain.append(projections.restricted_scale(scales, uplift_steps=steps))
    if model.norm == "restricted_finetune":
      biases = (s.removesuffix("scale") + "bias" for s in scales)
      chain.append(projections.frozen(tuple(biases)))
  if getattr(model, "zeroth_bias", "none") != "none" and cfg.zeroth_bias_kept:
    chain.append(projections.zeroth_bias(c=cfg.zeroth_bias_bound))
  return optax.chain(*chain) if len(chain) > 1 else chain[0]


def make_loss(config: ConfigDict, model: nn.Module, data: Dataset) -> LossFn:
  """What a step minimises: the classifier's loss on augmented batches."""
  with section_of("augment"):
    return augmented(
      classification_loss(model.apply, preprocess=data.preprocess),
      num_classes=data.num_classes,
      **config.augment,
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
  model = make_model(
    config, num_classes=num_classes, platform=jax.default_backend()
  )
  return Parts(
    model=model,
    controller=make_controller(config),
    schedule=schedule,
    tx=make_optimizer(config, schedule, model, steps_per_epoch=steps_per_epoch),
  )


def make_state(
  config: ConfigDict, parts: Parts, image_shape: tuple[int, ...]
) -> TrainState:
  """The state before the first step; the seed alone decides it."""
  init_rng, run_rng = jax.random.split(jax.random.key(config.seed))
  with section_of("model"):
    variables = _init(parts.model, init_rng, jnp.zeros((1, *image_shape)))
  return TrainState.create(
    variables,
    tx=parts.tx,
    controller=parts.controller,
    rng=run_rng,
  )


# Of equal models only the first is compiled for.
@functools.partial(jax.jit, static_argnums=0)
def _init(model: nn.Module, rng: jax.Array, images: jax.Array) -> Any:
  return model.init(rng, images, 1.0)


def multiply_adds(model: nn.Module, data: Dataset) -> Arithmetic:
  """Of a forward pass of one image, all and by site.

  Raises:
    InputError: if the model cannot take such images.
  """
  shape = data.test_images.shape[1:]
  with section_of("model"):
    if hasattr(model, "multiply_adds"):
      return model.multiply_adds(*shape[:2])
    return _traced_arithmetic(model, shape)


def _traced_arithmetic(
  model: nn.Module, image_shape: tuple[int, ...]
) -> Arithmetic:
  """As XLA counts, and the sites that the model reports; by site unknown."""
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), images, 1.0)
  apply = jax.jit(functools.partial(model.apply, train=False))
  try:
    _, stats = jax.eval_shape(apply, variables, images, 1.0)
  except (TypeError, ValueError) as error:
    raise ValueError(
      "name: the model must be called as model.apply(variables, images,"
      f" keep_ratio, train=...) and return (logits, stats): {error}"
    ) from error
  if isinstance(stats, Mapping):
    names = [*stats]
  else:
    number = sum(leaf.size for leaf in jax.tree.leaves(stats))
    names = [f"site{i}" for i in range(number)]
  cost = apply.lower(variables, images, 1.0).cost_analysis() or {}
  return max(1, round(cost.get("flops", 0) / 2)), dict.fromkeys(names, 0)


def check_budgets(controller: Controller, arithmetic: Arithmetic) -> None:
  """Raises an ``InputError`` unless there is one budget, or one a site."""
  with section_of("controller"):
    check_sites(jax.eval_shape(controller.init).keep_ratio, len(arithmetic[1]))


def make_data(config: ConfigDict, log: Callable[[str], None]) -> Dataset:
  """The dataset of ``config.data``, fetched if it has to be."""
  cfg = config.data
  data = named.load(cfg.name, cfg.dir, image_size=cfg.image_size, log=log)
  sizes = len(data.train_labels), len(data.test_labels)
  num_train, num_test = num_examples(config, sizes)
  test_images, test_labels = data.test_images, data.test_labels
  if config.data.evaluate_on == "validation":
    test_images = data.train_images[-num_test:]
    test_labels = data.train_labels[-num_test:]
  check_batch(config, sizes)
  return data._replace(
    train_images=data.train_images[:num_train],
    train_labels=data.train_labels[:num_train],
    test_images=test_images[:num_test],
    test_labels=test_labels[:num_test],
  )


def num_examples(
  config: ConfigDict, splits: tuple[int, int]
) -> tuple[int, int]:
  """Training and test images of ``config.data``: the first of each split.

  ``splits`` are those of the whole set.

  With ``evaluate_on`` ``validation`` the last training images are held out and
  take the place of the test split.
  """
  cfg = config.data
  with section_of("data"):
    one_of("evaluate_on", cfg.evaluate_on, ("test", "validation"))
    for field, size in zip(("num_train", "num_test"), splits, strict=True):
      in_range(field, cfg[field], 0, size)
  num_test = cfg.num_test or splits[1]
  if cfg.evaluate_on == "test":
    return cfg.num_train or splits[0], num_test
  num_train = cfg.num_train or splits[0] - num_test
  if num_train + num_test > splits[0]:
    raise InputError(
      f"data.num_train must leave {num_test} of the {splits[0]} training images"
      f" for validation, got {num_train}"
    )
  return num_train, num_test


def check(config: ConfigDict) -> None:
  """Builds everything that needs no data, so that mistakes show at once.

  Raises:
    InputError: naming the field, what it got and what it takes.
  """
  make_parts(config, num_classes=1, steps_per_epoch=1)
  check_finetuning(config)
  with section_of("augment"):
    augmented(
      lambda *_, **__: (jnp.zeros(()), {}), num_classes=1, **config.augment
    )
  loggers.makers_of(config.log.backends)
  with section_of("data"):
    one_of("evaluate_on", config.data.evaluate_on, ("test", "validation"))
    named.check_name(config.data.name)
    in_range("image_size", config.data.image_size, 0, 4096)
  # Of others the numbers are known when they are read.
  if config.data.name in named.SIZES:
    check_batch(config, named.SIZES[config.data.name])


def check_batch(config: ConfigDict, splits: tuple[int, int]) -> None:
  """Raises an ``InputError`` unless an epoch has a batch."""
  num_train, _ = num_examples(config, splits)
  if config.train.batch_size > num_train:
    raise InputError(
      f"train.batch_size must be at most the {num_train} training images of"
      f" {config.data.name}, got {config.train.batch_size}"
    )


def check_finetuning(config: ConfigDict) -> None:
  """Raises an ``InputError`` for half a fine-tuning for sparsity."""
  norm, steps = config.model.get("norm"), config.optimizer.uplift_steps
  finetunes = norm == "restricted_finetune"
  if finetunes and not config.train.start_from:
    raise InputError(
      "train.start_from must be the folder of the run to fine-tune where"
      " model.norm is restricted_finetune, got ''"
    )
  if finetunes and not steps:
    raise InputError(
      "optimizer.uplift_steps must be at least 1 where model.norm is"
      " restricted_finetune, got 0"
    )
  if steps and not finetunes:
    raise InputError(
      "optimizer.uplift_steps must be 0 unless model.norm is"
      f" restricted_finetune, got {steps} with {norm}"
    )


def check_parent(config: ConfigDict, parent: ConfigDict) -> None:
  """Raises an ``InputError`` if fine-tuning cannot begin with such a run."""
  activation = parent.model.get("activation")
  if config.model.get("mix_steps") and activation != "relu":
    raise InputError(
      "train.start_from must be a run with ReLU where model.mix_steps goes from"
      f" there, got {config.train.start_from} with {activation}"
    )


def _seed(config: ConfigDict, offset: int) -> int:
  return (config.seed + offset) % (MAX_COUNT + 1)
