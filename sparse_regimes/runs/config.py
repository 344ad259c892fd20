"""From a config file and overrides to one complete, checked config."""

import ast
import json
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from sparse_regimes.data.streaming import STREAMS
from sparse_regimes.errors import (
  InputError,
  did_you_mean,
  in_range,
  one_of,
)
from sparse_regimes.references import beside, is_reference
from sparse_regimes.runs import factory, makers
from sparse_regimes.runs.defaults import default_config
from sparse_regimes.runs.mesh import PARAMETERS

# Of examples and steps; int32 holds their products with epochs of CIFAR-10.
_MOST = 10**6


# Budgets, of which each site may have its own.
_BY_SITE = tuple(
  f"controller.{name}"
  for name in (
    *("keep_ratio", "keep_init", "keep_min", "keep_max"),
    *("keep_final", "keep_sparse"),
  )
)


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """Reads a config file, applies overrides, fills in defaults and checks all.

  Args:
    path: a Python file with ``get_config()`` (it is run: only open files that
      you trust), a ``config.json`` that a run wrote, or the name of a config
      that ships with the package (``smoke``). What follows a colon is the
      function's argument: ``my.py:small``.
    overrides: ``section.field=value`` each.

  Returns:
    A complete config.

  Raises:
    InputError: one line that names the field, what it got and what it takes.
  """
  config = default_config()
  written = flatten(_read(path))
  _add_arguments(config, written, overrides)
  given: dict[str, Any] = {}
  for field, value in written.items():
    given[field] = _typed(config, field, value)
  overridden = {}
  for override in overrides:
    field, equals, text = override.partition("=")
    if not field.isprintable():
      raise InputError(f"{field!r} is not a field of the config")
    if not equals:
      raise InputError(f"{field} must be given as {field}=VALUE, got no value")
    overridden[field] = _typed(config, field, _parse(config, field, text))
  # A budget is a number, or a tuple with one for each site.
  with config.ignore_type():
    config.update_from_flattened_dict(given | overridden)
  for section in makers.NAMED:
    _narrow(config, section, given | overridden, overridden)
  _check(config)
  return config


def parse_overrides(arguments: Sequence[str]) -> list[str]:
  """``--config.a.b=v`` or ``--config.a.b v`` as ``a.b=v``; nothing else goes.

  Example:
    >>> from sparse_regimes.runs.config import parse_overrides
    >>> parse_overrides(["--config.train.epochs", "2", "--config.seed=1"])
    ['train.epochs=2', 'seed=1']
  """
  overrides: list[str] = []
  unfinished = False
  for argument in arguments:
    if argument.startswith("--config."):
      overrides.append(argument.removeprefix("--config."))
      unfinished = "=" not in argument
    elif unfinished:
      overrides[-1] += f"={argument}"
      unfinished = False
    else:
      raise InputError(
        f"{argument} is not a known argument; fields are set by"
        " --config.section.field=value, --help lists the rest"
      )
  return overrides


def shipped_configs() -> dict[str, Path]:
  """The configs beside the package (a checkout) or inside it (a wheel)."""
  package = Path(__file__).parent.parent
  inside = package / "configs"
  folder = inside if inside.is_dir() else package.parent / "configs"
  return {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}


def flatten(
  config: Mapping[str, Any] | ConfigDict, prefix: str = ""
) -> dict[str, Any]:
  """Values by ``section.field``.

  Example:
    >>> from sparse_regimes.runs.config import flatten
    >>> flatten({"seed": 0, "train": {"epochs": 2}})
    {'seed': 0, 'train.epochs': 2}
  """
  flat: dict[str, Any] = {}
  for name, value in config.items():
    if isinstance(value, (Mapping, ConfigDict)):
      flat |= flatten(value, f"{prefix}{name}.")
    else:
      flat[f"{prefix}{name}"] = value
  return flat


def _add_arguments(
  config: ConfigDict, written: dict[str, Any], overrides: Sequence[str]
) -> None:
  """Adds the fields of models, controllers and optimizers from outside."""
  last = dict(override.partition("=")[::2] for override in overrides)
  for section in makers.NAMED:
    field = f"{section}.name"
    for name in (written.get(field), last.get(field)):
      if isinstance(name, str) and is_reference(name):
        try:
          arguments = makers.arguments(section, name)
        except InputError:
          # Another takes its place: a run's own copy, where a file has gone.
          if name == written.get(field) and field in last:
            continue
          raise
        with config.ignore_type(), config.unlocked():
          config[section].update(arguments)
  name = last.get("optimizer.name", written.get("optimizer.name", "sgd"))
  if isinstance(name, str) and name not in makers.OPTIMIZERS:
    arguments = makers.optimizer_arguments(name)
    with config.ignore_type(), config.unlocked():
      for field in makers.OF_OUR_OPTIMIZERS:
        del config.optimizer[field]
        # So that a command may change the name alone.
        written.pop(f"optimizer.{field}", None)
      config.optimizer.update(arguments)


def _narrow(
  config: ConfigDict,
  section: str,
  given: Mapping[str, Any],
  overridden: Mapping[str, Any],
) -> None:
  """Leaves a section with the arguments of what it names.

  A file's arguments for another model or controller are dropped, so that a
  command may change the name alone; an override for another is a mistake.
  """
  name = config[section].name
  arguments = makers.arguments(section, name)
  for field in overridden:
    parent, _, argument = field.partition(".")
    if parent == section and argument not in ("name", *arguments):
      raise InputError(
        f"{field} is not a field of the {name} {section}, which takes"
        f" {', '.join(arguments)}{did_you_mean(argument, arguments)}"
      )
  config[section] = ConfigDict(
    {"name": name}
    | {
      argument: given.get(f"{section}.{argument}", default)
      for argument, default in arguments.items()
    }
  )


def _check(config: ConfigDict) -> None:
  try:
    in_range("seed", config.seed, 0, 2**32 - 1)
    in_range("train.epochs", config.train.epochs, 1, 10**6)
    in_range("train.batch_size", config.train.batch_size, 1, _MOST)
    in_range("train.steps_per_call", config.train.steps_per_call, 0, _MOST)
    in_range("eval.batch_size", config.eval.batch_size, 1, _MOST)
    in_range("eval.num_train", config.eval.num_train, 1, _MOST)
    in_range("train.num_devices", config.train.num_devices, 0, _MOST)
    in_range("train.accumulate", config.train.accumulate, 1, _MOST)
    in_range("train.ema_decay", config.train.ema_decay, 0, 1, below=True)
    one_of("train.parameters", config.train.parameters, PARAMETERS)
    one_of("eval.parameters", config.eval.parameters, ("trained", "ema"))
    one_of("data.stream", config.data.stream, STREAMS)
    one_of("train.on_nonfinite", config.train.on_nonfinite, ("stop", "skip"))
    in_range("checkpoint.every_epochs", config.checkpoint.every_epochs, 0)
    in_range("checkpoint.every_steps", config.checkpoint.every_steps, 0)
    in_range("checkpoint.every_minutes", config.checkpoint.every_minutes, 0)
    in_range("checkpoint.keep", config.checkpoint.keep, 1, 1000)
    for milestone in config.optimizer.milestones:
      in_range("optimizer.milestones", milestone, 0, _MOST)
    in_range(
      "optimizer.reference_batch_size", config.optimizer.reference_batch_size, 0
    )
  except ValueError as error:
    raise InputError(str(error)) from error
  factory.check(config)


def _read(path: str) -> Mapping[str, Any]:
  shipped = shipped_configs()
  name, _, argument = path.rpartition(":")
  if not name.endswith(".py") and name not in shipped:
    name, argument = path, ""
  file = epath.Path(name)
  if not file.is_file() and name in shipped:
    file = epath.Path(shipped[name])
  if not file.is_file():
    raise InputError(
      f"--config must be a config file or one of {', '.join(shipped)}, got"
      f" {path!r}, which does not exist{did_you_mean(file.stem, shipped)}"
    )
  try:
    if file.suffix == ".json":
      config = json.loads(file.read_text())
    else:
      config = _run(file, argument)
  except (Exception, SystemExit) as error:
    raise InputError(
      f"--config: {path} could not be read: {type(error).__name__}: {error}"
    ) from error
  if not isinstance(config, (Mapping, ConfigDict)):
    raise InputError(
      f"--config: {path} must give a dict or a ConfigDict, got"
      f" {type(config).__name__}"
    )
  return config


def _run(file: epath.Path, argument: str) -> Any:
  """What ``get_config`` returns; its file may import the files beside it."""
  with beside(Path(file).absolute().parent):
    get_config = runpy.run_path(str(file))["get_config"]
    return get_config(argument) if argument else get_config()


def _default(config: ConfigDict, field: str) -> Any:
  """The default of ``section.field``, or an error naming what there is."""
  where, section = "config", config
  *parents, name = field.split(".")
  for parent in parents:
    if parent not in section or not isinstance(section[parent], ConfigDict):
      raise InputError(
        f"{field}: {where} has no section {parent!r}, but {_names(section)}"
        f"{did_you_mean(parent, section)}"
      )
    where, section = parent, section[parent]
  if name not in section:
    raise InputError(
      f"{field}: {where} has no field {name!r}, but {_names(section)}"
      f"{did_you_mean(name, section)}"
    )
  if isinstance(section[name], ConfigDict):
    raise InputError(
      f"{field} is a section; set one of {_names(section[name])}"
    )
  return section[name]


def _names(section: ConfigDict) -> str:
  return ", ".join(section.keys())


def _parse(config: ConfigDict, field: str, text: str) -> Any:
  """The text of an override as Python reads it; strings need no quotes."""
  if isinstance(_default(config, field), str):
    return text
  if text.lower() in ("true", "false"):
    return text.lower() == "true"
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
    return text


def _typed(config: ConfigDict, field: str, value: Any) -> Any:
  """``value`` if it has the type of the field's default."""
  default = _default(config, field)
  kind = type(default)
  # An empty one takes numbers of either kind.
  items = (int,) if kind is tuple and default else (int, float)
  if kind is float and type(value) is int:
    value = float(value) if abs(value) < 2**63 else float("inf")
  if field in _BY_SITE and isinstance(value, (list, tuple)):
    if value and all(type(item) in (int, float) for item in value):
      return tuple(map(float, value))
  elif kind is tuple and isinstance(value, (list, tuple)):
    value = tuple(value)
    if all(type(item) in items for item in value):
      return value
  elif type(value) is kind:
    return value
  takes = kind.__name__
  if kind is tuple:
    takes = f"a tuple of {items[-1].__name__}"
  raise InputError(f"{field} must be {takes}, got {value!r}")
