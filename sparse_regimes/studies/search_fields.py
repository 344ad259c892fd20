"""What a search searches: its fields, from the command line to a trial."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from optuna.trial import Trial

from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs

_RANGE = re.compile(r"([\w.]+):([^:]+):([^:]+?)(:log)?")
_CHOICE = re.compile(r"([\w.]+)=(.+)")
NOT_SEARCHED = {
  "seed": "is the same for every trial; give --config.seed",
  "data.evaluate_on": "is always validation in a search",
}


class Field(NamedTuple):
  """What is searched.

  Attributes:
    name: ``section.field``.
    low: of a range.
    high: of it.
    log: whether it is searched in equal factors.
    whole: whether it is a range of integers.
    choices: instead of a range.
  """

  name: str
  low: float = 0.0
  high: float = 0.0
  log: bool = False
  whole: bool = False
  choices: tuple[str, ...] = ()

  def suggest(self, trial: Trial) -> Any:
    """A value for a trial."""
    if self.choices:
      return trial.suggest_categorical(self.name, self.choices)
    if self.whole:
      low, high = int(self.low), int(self.high)
      return trial.suggest_int(self.name, low, high, log=self.log)
    return trial.suggest_float(self.name, self.low, self.high, log=self.log)


def parse_fields(
  text: str, config: str, overrides: Sequence[str]
) -> list[Field]:
  """Reads ``--fields`` and tries the ends of every range on the config."""
  defaults = configs.flatten(configs.load(config, overrides))
  fields: list[Field] = []
  for part in text.split(","):
    if match := _CHOICE.fullmatch(part):
      name, choices = match[1], tuple(match[2].split("|"))
      field = Field(name, choices=choices)
      tried: Sequence[Any] = choices
    elif match := _RANGE.fullmatch(part):
      name, log = match[1], bool(match[4])
      try:
        low, high = float(match[2]), float(match[3])
      except ValueError:
        low = high = math.nan
      if not (
        math.isfinite(low) and low < high < math.inf and (low > 0 or not log)
      ):
        raise InputError(
          f"--fields: {part} must have LOW below HIGH, and above 0 with :log"
        )
      whole = type(defaults.get(name)) is int
      field = Field(name, low, high, log, whole)
      tried = [int(v) if whole else v for v in (low, high)]
    else:
      raise InputError(
        f"--fields must be NAME:LOW:HIGH[:log] or NAME=A|B|C, got {part!r}"
      )
    if name not in defaults or type(defaults[name]) is tuple:
      raise InputError(f"--fields: {config} has no number or name {name!r}")
    if name in NOT_SEARCHED:
      raise InputError(f"--fields: {name} {NOT_SEARCHED[name]}")
    if name in {field.name for field in fields}:
      raise InputError(f"--fields must have each field once, got {name} twice")
    if field.whole and not (field.low.is_integer() and field.high.is_integer()):
      raise InputError(f"--fields: {name} takes integers, got {part}")
    for value in tried:
      configs.load(config, [*overrides, f"{name}={value}"])
    fields.append(field)
  return fields
