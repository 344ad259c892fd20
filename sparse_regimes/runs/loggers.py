"""Where a run's numbers go besides ``metrics.jsonl``."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sparse_regimes.errors import InputError, did_you_mean
from sparse_regimes.references import is_reference, resolve


class Logger(Protocol):
  """Takes numbers as a run goes on."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Numbers by ``group/name``, of a step; steps never go back."""

  def close(self) -> None:
    """The run ends, or stops for now."""


class Start(NamedTuple):
  """What a logger is made of.

  Attributes:
    workdir: the run's folder.
    config: its fields by ``section.field``.
    step: made before; what was logged after it is to be dropped.
  """

  workdir: Path
  config: Mapping[str, Any]
  step: int


class TensorBoard:
  """Event files in the run's folder.

  Args:
    start: of the run.
  """

  def __init__(self, start: Start):
    import tensorboardX  # here, as a run may not want it

    self._writer = tensorboardX.SummaryWriter(
      os.fspath(start.workdir), purge_step=start.step + 1
    )
    self._config = dict(start.config)
    self._last: dict[str, float] = {}

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """As :meth:`Logger.write`."""
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)
    self._writer.flush()
    self._last |= {k: v for k, v in values.items() if k.startswith("test")}

  def close(self) -> None:
    """Writes the hyper-parameters beside the last numbers."""
    if self._last:
      config = {
        field: value if isinstance(value, (bool, int, float)) else str(value)
        for field, value in self._config.items()
      }
      self._writer.add_hparams(config, self._last, name="hyper_parameters")
    self._writer.close()


class WeightsAndBiases:
  """A run of Weights & Biases, which ``WANDB_MODE=offline`` keeps here.

  A run that goes on is the same one there: its id is kept in its folder.

  Args:
    start: of the run.
  """

  def __init__(self, start: Start):
    try:
      import wandb  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
      raise InputError(
        f"log.backends: wandb could not be imported ({error}): pip install"
        " 'sparse_regimes[wandb]'"
      ) from error
    path = start.workdir / "wandb_id"
    name = path.read_text() if path.exists() else os.urandom(6).hex()
    path.write_text(name)
    self._run = wandb.init(
      project="sparse_regimes",
      name=start.workdir.name,
      id=name,
      resume="allow",
      dir=os.fspath(start.workdir),
      config=dict(start.config),
    )

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """As :meth:`Logger.write`."""
    self._run.log(dict(values), step=step)

  def close(self) -> None:
    """As :meth:`Logger.close`."""
    self._run.finish()


BACKENDS: dict[str, Callable[[Start], Logger]] = {
  "tensorboard": TensorBoard,
  "wandb": WeightsAndBiases,
}


def makers_of(names: str) -> list[Callable[[Start], Logger]]:
  """What ``log.backends`` names, by commas; nothing if it is empty.

  Raises:
    InputError: if one is none.
  """
  found: list[Callable[[Start], Logger]] = []
  for name in filter(None, map(str.strip, names.split(","))):
    if is_reference(name):
      found.append(resolve(name, "log.backends"))
    elif name in BACKENDS:
      found.append(BACKENDS[name])
    else:
      raise InputError(
        f"log.backends must be among {', '.join(BACKENDS)}, FILE.py:Name, got"
        f" {name!r}{did_you_mean(name, BACKENDS)}"
      )
  return found


_GROUPS = {
  "controller": ("keep_ratio", "ema_accuracy", "best_ema_accuracy", "cooldown"),
  "optimizer": ("learning_rate",),
  "pace": ("images_per_second",),
}
_GROUP_OF = {name: group for group, names in _GROUPS.items() for name in names}


def grouped(record: Mapping[str, Any]) -> dict[str, float]:
  """The numbers of a record by ``group/name``, without those not known.

  Example:
    >>> from sparse_regimes.runs.loggers import grouped
    >>> grouped({"epoch": 1, "train_loss": 0.5, "test_sparse_accuracy": 0.2})
    {'train/loss': 0.5, 'test_sparse/accuracy': 0.2}
  """
  values = {}
  for name, value in record.items():
    if value is None or name in ("epoch", "step"):
      continue
    group, _, rest = name.rpartition("_")
    group = _GROUP_OF.get(name) or group
    values[f"{group}/{name if name in _GROUP_OF else rest}"] = float(value)
  return values


def of_sites(
  details: Mapping[str, Any], names: Sequence[str]
) -> dict[str, float]:
  """Nonzero fractions by ``sites_BUDGET/NAME``.

  Example:
    >>> from sparse_regimes.runs.loggers import of_sites
    >>> of_sites({"test_dense_sites": [0.5]}, ["head"])
    {'sites_dense/head': 0.5}
  """
  return {
    f"sites_{budget}/{name}": share
    for budget in ("sparse", "dense")
    for name, share in zip(
      names, details.get(f"test_{budget}_sites", ()), strict=False
    )
  }
