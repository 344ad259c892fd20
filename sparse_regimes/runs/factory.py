"""The one place where a config's strings become objects."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from sparse_regimes.controllers import Controller
from sparse_regimes.controllers.bounds import MAX_COUNT
from sparse_regimes.errors import (
  InputError,
  in_range,
  one_line,
  one_of,
  section_of,
)
from sparse_regimes.masks.sites import check_sites
from sparse_regimes.masks.statistics import Arithmetic
from sparse_regimes.runs import loggers
from sparse_regimes.runs.controller import make_controller
from sparse_regimes.runs.makers import (
  maker,
  optimizer_arguments,
  optimizer_maker,
  task_class,
)
from sparse_regimes.tasks import Task
from sparse_regimes.training import optimizer, projections
from sparse_regimes.training.averaging import EMA
from sparse_regimes.training.state import TrainState

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def make_model(
  config: ConfigDict, *, platform: str, **arguments: Any
) -> nn.Module:
  """The network of ``config.model``, computing in the platform's dtype.

  Args:
    config: the whole config; ``model.dtype`` is ``float32``, ``bfloat16`` or
      ``auto``: float32 on CPU, bfloat16 elsewhere. Parameters are float32.
    platform: ``jax.default_backend()``.
    **arguments: that the task decides, such as ``num_classes``; the model gets
      those that it takes.
  """
  with section_of("model"):
    given = config.model.to_dict()
    make = maker("model", given.pop("name"))
    if "dtype" in given:
      dtype = one_of("dtype", given["dtype"], ("auto", *DTYPES))
      if dtype == "auto":
        dtype = "float32" if platform == "cpu" else "bfloat16"
      given["dtype"] = DTYPES[dtype]
    takes = inspect.signature(make).parameters
    given |= {name: x for name, x in arguments.items() if name in takes}
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
  cfg, accumulate = config.optimizer, config.train.accumulate
  for field in ("rollback", "restart_at_resets"):
    if accumulate > 1 and cfg[field]:
      # It would see the controller at every update alone, and miss a reset.
      raise InputError(
        f"train.accumulate must be 1 where optimizer.{field} is on, got"
        f" {accumulate}"
      )
  if cfg.restart_at_resets and config.budget.share_every:
    # It looks for a rise of one budget.
    raise InputError(
      "budget.share_every must be 0 where optimizer.restart_at_resets is on,"
      f" got {config.budget.share_every}"
    )
  # An optimizer counts its updates, a schedule steps.
  if accumulate > 1:
    schedule = _by_update(schedule, accumulate, 1)
  updates = getattr(task_class(config.task.name), "updates_per_step", None)
  if updates is not None:
    schedule = _by_update(schedule, 1, updates(config))
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
  whole = optax.chain(*chain) if len(chain) > 1 else chain[0]
  if accumulate > 1:
    several = optax.MultiSteps(whole, accumulate)
    return optax.GradientTransformationExtraArgs(several.init, several.update)
  return whole


def _by_update(
  schedule: optax.Schedule, steps: int, updates: int
) -> optax.Schedule:
  """By update what ``schedule`` is by step: so many steps have so many."""
  return lambda count: schedule(count * steps // updates)


class Parts(NamedTuple):
  """The static objects of a run, which its steps close over."""

  model: nn.Module
  controller: Controller
  schedule: optax.Schedule
  tx: optax.GradientTransformation


def make_parts(
  config: ConfigDict, *, steps_per_epoch: int, **arguments: Any
) -> Parts:
  """All static objects of a run, for the platform JAX runs on.

  Args:
    config: the whole config.
    steps_per_epoch: whole batches.
    **arguments: of the model, as the task says.

  Raises:
    InputError: naming the field, what it got and what it takes.
  """
  schedule = make_schedule(config, steps_per_epoch=steps_per_epoch)
  model = make_model(config, platform=jax.default_backend(), **arguments)
  return Parts(
    model=model,
    controller=make_controller(config, getattr(model, "site_names", ())),
    schedule=schedule,
    tx=make_optimizer(config, schedule, model, steps_per_epoch=steps_per_epoch),
  )


def make_state(
  config: ConfigDict,
  parts: Parts,
  image_shape: tuple[int, ...] | jax.ShapeDtypeStruct,
  task: Task | None = None,
) -> TrainState:
  """The state before the first step; the seed alone decides it.

  Args:
    config: the whole config.
    parts: of :func:`make_parts`.
    image_shape: of one image, or an example with a leading axis of 1.
    task: adds what it carries besides.
  """
  inputs = image_shape
  if not isinstance(inputs, jax.ShapeDtypeStruct):
    inputs = jax.ShapeDtypeStruct((1, *inputs), jnp.float32)
  init_rng, run_rng = jax.random.split(jax.random.key(config.seed))
  with section_of("model"):
    variables = _init(
      parts.model, init_rng, jnp.zeros(inputs.shape, inputs.dtype)
    )
  # Kept apart by name; nothing of it is the network's.
  extra: dict[str, Any] = {}
  if config.train.ema_decay:
    extra[EMA] = variables["params"]
  carried = task.extra(jax.random.fold_in(run_rng, 1)) if task else None
  if carried is not None:
    extra["task"] = carried
  return TrainState.create(
    variables,
    tx=parts.tx,
    controller=parts.controller,
    rng=run_rng,
    extra=extra or None,
  )


# Of equal models only the first is compiled for.
@functools.partial(jax.jit, static_argnums=0)
def _init(model: nn.Module, rng: jax.Array, inputs: jax.Array) -> Any:
  return model.init(rng, inputs, 1.0)


def multiply_adds(model: nn.Module, inputs: jax.ShapeDtypeStruct) -> Arithmetic:
  """Of a forward pass of one example, all and by site.

  Args:
    model: the network.
    inputs: an example with a leading axis of 1.

  Raises:
    InputError: if the model cannot take such inputs.
  """
  with section_of("model"):
    if hasattr(model, "multiply_adds"):
      try:
        return model.multiply_adds(*inputs.shape[1:3])
      except TypeError as error:
        raise ValueError(
          f"name: {type(model).__name__} cannot take the task's inputs"
          f" {[*inputs.shape[1:]]}"
        ) from error
    return _traced_arithmetic(model, inputs)


def _traced_arithmetic(
  model: nn.Module, inputs: jax.ShapeDtypeStruct
) -> Arithmetic:
  """As XLA counts, and the sites that the model reports; by site unknown."""
  apply = jax.jit(functools.partial(model.apply, train=False))
  try:
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs, 1.0)
    _, stats = jax.eval_shape(apply, variables, inputs, 1.0)
  except (TypeError, ValueError) as error:
    raise ValueError(
      "name: the model must be called as model.apply(variables, inputs,"
      f" keep_ratio, train=...) with inputs {[*inputs.shape]}, and return"
      f" (outputs, stats): {one_line(error)}"
    ) from error
  if isinstance(stats, Mapping):
    names = [*stats]
  else:
    number = sum(leaf.size for leaf in jax.tree.leaves(stats))
    names = [f"site{i}" for i in range(number)]
  cost = apply.lower(variables, inputs, 1.0).cost_analysis() or {}
  return max(1, round(cost.get("flops", 0) / 2)), dict.fromkeys(names, 0)


def check_budgets(controller: Controller, arithmetic: Arithmetic) -> None:
  """Raises an ``InputError`` unless there is one budget, or one a site."""
  with section_of("controller"):
    check_sites(jax.eval_shape(controller.init).keep_ratio, len(arithmetic[1]))


def check(config: ConfigDict) -> None:
  """Builds everything that needs no data, so that mistakes show at once.

  Raises:
    InputError: naming the field, what it got and what it takes.
  """
  with section_of("task"):
    arguments = task_class(config.task.name).check(config)
  make_parts(config, steps_per_epoch=1, **arguments)
  check_finetuning(config)
  loggers.makers_of(config.log.backends)


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
