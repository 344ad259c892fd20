"""What a config may name, and which fields the named thing takes."""

import inspect
from collections.abc import Callable
from typing import Any

import optax
import optax.contrib
from flax import linen as nn

from sparse_regimes import controllers
from sparse_regimes.controllers import Controller
from sparse_regimes.errors import (
  InputError,
  did_you_mean,
  one_of,
  section_of,
)
from sparse_regimes.models.actor_critic import ActorCritic
from sparse_regimes.models.residual_mlp import ResidualMLP
from sparse_regimes.models.transformer import Transformer
from sparse_regimes.models.vision_transformer import VisionTransformer
from sparse_regimes.models.wide_resnet import WideResNet
from sparse_regimes.references import is_reference, resolve
from sparse_regimes.tasks import TASKS, Task

CONTROLLERS: dict[str, Callable[..., Controller]] = {
  "adaptive": controllers.adaptive,
  "constant": controllers.constant,
  "cosine": controllers.cosine,
  "gentle": controllers.gentle,
  "k_decay": controllers.k_decay,
  "polynomial": controllers.polynomial,
  "random_ratio": controllers.random_ratio,
  "ssd_switch": controllers.ssd_switch,
  "strategy1": controllers.strategy1,
  "strategy2": controllers.strategy2,
}
MODELS: dict[str, Callable[..., nn.Module]] = {
  "actor_critic": ActorCritic,
  "residual_mlp": ResidualMLP,
  "transformer": Transformer,
  "vision_transformer": VisionTransformer,
  "wide_resnet": WideResNet,
}
# Sections of a config whose fields are the arguments of what they name.
NAMED: dict[str, dict[str, Callable[..., Any]]] = {
  "model": MODELS,
  "controller": CONTROLLERS,
  "task": {**TASKS},
}
# What a config sets otherwise, or not at all.
_NOT_FIELDS = {
  "model": (
    # What the task decides.
    *("num_classes", "vocabulary", "context", "num_actions"),
    *("implementation", "budget_scope", "parent", "name"),
  ),
  "controller": ("higher_is_better",),
  # What a task is made with.
  "task": ("config", "log", "constants"),
}
_FIELD_TYPES = (bool, int, float, str, tuple)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_DEFAULTS: dict[str, dict[str, Any]] = {
  # float32 on CPU, bfloat16 elsewhere
  "model": {"dtype": "auto", "scope": "global"},
  "controller": {},
  "task": {},
}
_OF_ONE: dict[str, dict[str, Any]] = {
  "wide_resnet": {"depth": 28, "widen": 4},
  "transformer": {"scope": "channel"},
}


def arguments(section: str, name: str) -> dict[str, Any]:
  """The fields, with defaults, of a model, controller or task in a config.

  Example:
    >>> arguments("controller", "constant")
    {'keep_ratio': 1.0}
  """
  parameters = inspect.signature(maker(section, name)).parameters
  known = _DEFAULTS[section] | _OF_ONE.get(name, {})
  defaults = {
    field: known.get(field, parameter.default)
    for field, parameter in parameters.items()
    if field not in _NOT_FIELDS[section] and parameter.kind not in _VARIABLE
  }
  if not is_reference(name):
    return defaults
  if inspect.Parameter.empty in defaults.values():
    raise InputError(
      f"{section}.name: every argument of {name} must have a default, as it is"
      " a field of the config"
    )
  # What a config cannot write down stays as it is.
  return {f: v for f, v in defaults.items() if isinstance(v, _FIELD_TYPES)}


def maker(section: str, name: str) -> Callable[..., Any]:
  """What makes a model, a controller or a task, by its name or reference.

  Raises:
    InputError: if there is none, naming the choices.
  """
  if name in NAMED[section]:
    return NAMED[section][name]
  if not is_reference(name):
    choices = (*NAMED[section], "PATH.py:Name", "package.module:Name")
    with section_of(section):
      one_of("name", name, choices)
  made = resolve(name, f"{section}.name")
  if section == "model" and not (
    callable(getattr(made, "init", None))
    and callable(getattr(made, "apply", None))
  ):
    raise InputError(
      f"model.name: {name} must be a Linen module, got {type(made).__name__}"
    )
  if section == "task" and not callable(getattr(made, "check", None)):
    raise InputError(
      f"task.name: {name} must be a class like sparse_regimes.tasks.Task, got"
      f" {type(made).__name__}"
    )
  if not callable(made):
    raise InputError(
      f"{section}.name: {name} must be callable, got {type(made).__name__}"
    )
  return made


# Those with arguments of their own names; and the arguments.
OPTIMIZERS = ("sgd", "adam")
OF_OUR_OPTIMIZERS = ("beta2", "momentum", "nesterov", "weight_decay")


def task_class(name: str) -> type[Task]:
  """The class of a task, by its name or reference.

  Raises:
    InputError: if there is none.
  """
  return maker("task", name)  # type: ignore[return-value]


def optimizer_maker(name: str) -> Callable[..., optax.GradientTransformation]:
  """``make(learning_rate, **arguments)`` of optax, optax.contrib or a file.

  Raises:
    InputError: if there is none of that name that takes a learning rate.
  """
  if is_reference(name):
    made = resolve(name, "optimizer.name")
  else:
    made = getattr(optax, name, None) or getattr(optax.contrib, name, None)
  takes = inspect.signature(made).parameters if callable(made) else {}
  if "learning_rate" not in takes:
    known = [
      n
      for room in (optax, optax.contrib)
      for n, make in vars(room).items()
      if inspect.isfunction(make)
      and "learning_rate" in inspect.signature(make).parameters
    ]
    raise InputError(
      "optimizer.name must be sgd, adam, FILE.py:function or a function of"
      f" optax that takes a learning_rate, got {name!r}"
      f"{did_you_mean(name, known)}"
    )
  return made


def optimizer_arguments(name: str) -> dict[str, Any]:
  """Its arguments that a config can write down, with their defaults.

  Example:
    >>> optimizer_arguments("lion")["b2"]
    0.99
  """
  parameters = inspect.signature(optimizer_maker(name)).parameters
  return {
    field: parameter.default
    for field, parameter in parameters.items()
    if field != "learning_rate" and isinstance(parameter.default, _FIELD_TYPES)
  }
