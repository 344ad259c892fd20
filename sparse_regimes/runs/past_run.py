"""A run that is there: its config, its static objects, its checkpoints."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from sparse_regimes.errors import InputError, one_of
from sparse_regimes.runs import factory
from sparse_regimes.runs.checkpoint import (
  FOLDER,
  DamagedError,
  make_manager,
  number_of,
  read,
  read_journal,
)
from sparse_regimes.runs.journal import Journal
from sparse_regimes.runs.task import make_task
from sparse_regimes.runs.workdir import (
  CONFIG_FILE,
  FREE,
  differing_fields,
  given_config,
  saved_config,
  stored_constants,
)
from sparse_regimes.tasks import Task
from sparse_regimes.training.state import TrainState
from sparse_regimes.tree import by_path


@dataclasses.dataclass
class PastRun:
  """What a checkpoint was made with, and what it holds.

  Attributes:
    config: of the run, with overrides.
    parts: its static objects.
    task: that it learned, with its data.
    state: on the default device.
    journal: up to the checkpoint.
  """

  config: ConfigDict
  parts: factory.Parts
  task: Task
  state: TrainState
  journal: Journal


def load_config(
  workdir: epath.Path,
  which: str,
  overrides: Sequence[str] = (),
  argument: str = "--workdir",
) -> ConfigDict:
  """The config of a run that may have such a checkpoint.

  Args:
    workdir: the run's folder.
    which: ``best`` or ``last``.
    overrides: of its config.
    argument: what named the folder, for errors.

  Raises:
    InputError: if it is no run or has no checkpoints.
  """
  if not (workdir / CONFIG_FILE).is_file():
    raise InputError(f"{argument} must hold a run, got {workdir}")
  check_checkpoint(workdir, which, argument)
  return saved_config(workdir, overrides)


def load_run(
  workdir: epath.Path,
  config: ConfigDict,
  which: str,
  log: Callable[[str], None],
) -> PastRun:
  """A checkpoint with all that it needs.

  Args:
    workdir: the run's folder.
    config: of :func:`load_config`.
    which: ``best`` or ``last``.
    log: takes a line at a time.

  Raises:
    InputError: if there is no such checkpoint or it cannot be read, or if the
      config is of another network.
  """
  constants = stored_constants(workdir) or {}
  task = make_task(config, log, constants or None)
  # Other data may be asked for by an override; the run's own should be its own.
  changed = constants.get("digest", task.digest) != task.digest
  if changed and not differing_fields(given_config(workdir), config):
    log(
      f"warning: data.name {config.data.name} has changed since the run in"
      f" {workdir} began"
    )
  parts, template = describe_run(workdir, config, task)
  state, journal = restore(workdir, which, template, log)
  return PastRun(config, parts, task, state, journal)


def describe_state(
  config: ConfigDict, task: Task
) -> tuple[factory.Parts, TrainState]:
  """The static objects of a config, and shapes and dtypes of its state."""
  parts = factory.make_parts(config, steps_per_epoch=1, **task.arguments)
  template = jax.eval_shape(
    lambda: factory.make_state(config, parts, task.inputs, task)
  )
  return parts, template


def describe_run(
  workdir: epath.Path, config: ConfigDict, task: Task
) -> tuple[factory.Parts, TrainState]:
  """As :func:`describe_state`, of a run's config with overrides.

  Raises:
    InputError: if the overrides make another state than the run's.
  """
  parts, template = describe_state(config, task)
  before = saved_config(workdir)
  # Parameters are float32 whatever it computes in.
  if changed := differing_fields(before, config, (*FREE, "model.dtype")):
    saved = by_path(describe_state(before, task)[1])
    wanted = by_path(template)
    # What moments say of a parameter the parameter itself says better.
    for name in sorted(
      saved | wanted, key=lambda n: not n.startswith("params")
    ):
      was, would_be = (
        x[name].shape if name in x else "absent" for x in (saved, wanted)
      )
      if was != would_be:
        raise InputError(
          f"--config overrides must leave the state of {workdir} as it is, got"
          f" {', '.join(changed)}: {name} is {was} and would be {would_be}"
        )
  return parts, template


def restore(
  workdir: epath.Path,
  which: str,
  template: TrainState,
  log: Callable[[str], None] = print,
) -> tuple[TrainState, Journal]:
  """Reads a checkpoint of a run, which may be running.

  Args:
    workdir: the run's folder.
    which: ``best`` (as the run's task chooses) or ``last``.
    template: a state of the checkpoint's shapes and dtypes, of arrays or of
      ``jax.ShapeDtypeStruct``.
    log: told what was skipped and why.

  Returns:
    The state, where the template's shardings say or else on the default device,
    and the journal up to it.

  Raises:
    InputError: if the run has no such checkpoint, or it cannot be read as one
      of this template.
  """
  check_checkpoint(workdir, which)
  template = _on_default_device(template)
  with make_manager(workdir, policy=None) as manager:
    reason = None
    for number in sorted(manager.all_steps(), reverse=True):
      try:
        if which == "best":
          best = number_of(read_journal(manager, number).best)
          if best is None:
            raise InputError(
              f"--checkpoint=best: no epoch of {workdir} has been evaluated yet"
            )
          return read(manager, best, template)
        return read(manager, number, template)
      except DamagedError as error:
        reason = reason or str(error)
        log(f"checkpoint  {number} is damaged: skipped ({error})")
    if reason is None:
      raise InputError(
        f"--workdir must hold a finished checkpoint, got {workdir}"
      )
    raise InputError(
      f"--workdir {workdir}: the {which} checkpoint is damaged or not of this"
      f" config ({reason})"
    )


def kept_epochs(
  workdir: epath.Path, log: Callable[[str], None] = print
) -> dict[int, int]:
  """The epochs of whose ends a run still has checkpoints, and their numbers.

  Args:
    workdir: the run's folder.
    log: told what was skipped and why.

  Raises:
    InputError: if the run has no checkpoints.
  """
  check_checkpoint(workdir, "last")
  epochs = {}
  with make_manager(workdir, policy=None) as manager:
    for number in sorted(manager.all_steps()):
      try:
        journal = read_journal(manager, number)
      except DamagedError as error:
        log(f"checkpoint  {number} is damaged: skipped ({error})")
        continue
      if journal.records and journal.records[-1]["step"] == journal.step:
        epochs[len(journal.records)] = number
  return epochs


def restore_number(
  workdir: epath.Path, number: int, template: TrainState
) -> tuple[TrainState, Journal]:
  """As :func:`restore`, a checkpoint by its number.

  Raises:
    DamagedError: if it is not what was saved.
  """
  with make_manager(workdir, policy=None) as manager:
    return read(manager, number, _on_default_device(template))


def _on_default_device(template: TrainState) -> TrainState:
  """Where the template does not say otherwise."""
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  def describe(x: Any) -> jax.ShapeDtypeStruct:
    said = x.sharding if isinstance(x, jax.ShapeDtypeStruct) else None
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=said or device)

  return jax.tree.map(describe, template)


def check_checkpoint(
  workdir: epath.Path, which: str, argument: str = "--workdir"
) -> None:
  """Raises an ``InputError`` unless the run may have such a checkpoint."""
  try:
    one_of("--checkpoint", which, ("best", "last"))
  except ValueError as error:
    raise InputError(str(error)) from error
  if not (workdir / FOLDER).is_dir():
    raise InputError(
      f"{argument} must hold a run with checkpoints, got {workdir}"
    )
