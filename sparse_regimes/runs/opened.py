"""A run that is open: its data, its state and its compiled programs."""

import contextlib
import dataclasses
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sparse_regimes.data.dataset import Dataset
from sparse_regimes.errors import InputError
from sparse_regimes.masks.statistics import Arithmetic
from sparse_regimes.runs import factory, processes
from sparse_regimes.runs.checkpoint import Checkpoints, has_checkpoints
from sparse_regimes.runs.epoch import compiled_call, default_steps_per_call
from sparse_regimes.runs.evaluate import make_batches
from sparse_regimes.runs.journal import Journal
from sparse_regimes.runs.mesh import (
  described,
  make_mesh,
  over_batches,
  place,
  place_state,
  replicated,
  state_shardings,
)
from sparse_regimes.runs.pace import format_seconds
from sparse_regimes.runs.pauses import Pauses
from sparse_regimes.runs.start_from import check_start, start_from
from sparse_regimes.runs.stopping import StopSignals
from sparse_regimes.runs.workdir import open_workdir
from sparse_regimes.runs.writers import METRICS_FILE
from sparse_regimes.training.classification import Batch
from sparse_regimes.training.eval_step import EvalStep, make_eval_step
from sparse_regimes.training.state import TrainState
from sparse_regimes.training.step import make_step, make_train_call

Log = Callable[[str], None]


@dataclasses.dataclass
class OpenRun:
  """What a run has while it trains.

  Attributes:
    config: complete.
    workdir: its folder, which is this process's alone.
    log: takes a line at a time.
    data: uint8 images.
    parts: model, optimizer, controller.
    arithmetic: of a forward pass.
    mesh: its devices.
    checkpoints: where states are saved.
    state: after the last step that was made.
    journal: what happened up to there.
    pauses: decides when the state is saved.
    steps_per_epoch: whole batches.
    steps_per_call: of the compiled program, at most.
  """

  config: ConfigDict
  workdir: epath.Path
  log: Log
  data: Dataset
  parts: factory.Parts
  arithmetic: Arithmetic
  mesh: Mesh
  checkpoints: Checkpoints
  state: TrainState
  journal: Journal
  pauses: Pauses
  steps_per_epoch: int
  steps_per_call: int

  @property
  def epochs(self) -> int:
    """How many it is to have."""
    return self.config.train.epochs

  @property
  def is_finished(self) -> bool:
    """Whether it has them."""
    return len(self.journal.records) == self.epochs

  @property
  def num_seen(self) -> int:
    """Training images that are evaluated as the test images are."""
    return min(self.config.eval.num_train, len(self.data.train_labels))


class Programs(NamedTuple):
  """What a run calls, compiled, and what it evaluates.

  Attributes:
    train_call: ``(state, indices) -> (state, metrics)``.
    eval_step: of :func:`sparse_regimes.make_eval_step`.
    eval_batches: on the devices, by split.
  """

  train_call: Callable[..., Any]
  eval_step: EvalStep
  eval_batches: dict[str, list[Batch]]


@contextlib.contextmanager
def open_run(
  config: ConfigDict, workdir: epath.Path, stop: StopSignals, log: Log
) -> Iterator[OpenRun]:
  """A run as it was saved, or new.

  Args:
    config: complete.
    workdir: a folder that holds no run, or one of this config.
    stop: what the system or a person asks for.
    log: takes a line at a time.

  Raises:
    InputError: for what the user got wrong, before anything is compiled.
  """
  with contextlib.ExitStack() as stack:
    with processes.all_or_none():
      data = factory.make_data(config, log)
      past = epath.Path(config.train.start_from)
      # A run that has begun needs it no longer.
      if config.train.start_from and not has_checkpoints(workdir):
        check_start(past, config, data)
    processes.check_same("data", digest_of(data))
    steps_per_epoch = len(data.train_labels) // config.train.batch_size
    steps_per_call = config.train.steps_per_call or default_steps_per_call(
      jax.default_backend(), steps_per_epoch
    )
    parts = factory.make_parts(
      config, num_classes=data.num_classes, steps_per_epoch=steps_per_epoch
    )
    arithmetic = factory.multiply_adds(parts.model, data)
    factory.check_budgets(parts.controller, arithmetic)
    mesh = make_mesh(config.train.batch_size, config.train.num_devices)
    stack.enter_context(jax.set_mesh(mesh))
    processes.on_first(
      lambda: stack.enter_context(open_workdir(workdir, config))
    )
    checkpoints = stack.enter_context(
      Checkpoints(workdir, keep=config.checkpoint.keep)
    )
    state = factory.make_state(config, parts, data.train_images.shape[1:])
    shardings = state_shardings(state, mesh, config.train.parameters)
    restored = checkpoints.restore_latest(described(state, shardings), log)
    if restored is None:
      processes.on_first(lambda: check_no_records(workdir))
      if config.train.start_from:
        with processes.all_or_none():
          state = start_from(past, state, parts.tx, data, mesh, log)
      state, journal = place_state(state, shardings), Journal()
    else:
      state, journal = restored
      log(
        f"resumed     after step {journal.step:,}, with"
        f" {len(journal.records)} of {config.train.epochs} epochs finished"
      )
    yield OpenRun(
      config=config,
      workdir=workdir,
      log=log,
      data=data,
      parts=parts,
      arithmetic=arithmetic,
      mesh=mesh,
      checkpoints=checkpoints,
      state=state,
      journal=journal,
      pauses=Pauses(config, checkpoints, journal, stop),
      steps_per_epoch=steps_per_epoch,
      steps_per_call=steps_per_call,
    )


def compile_programs(run: OpenRun) -> Programs:
  """The data on the devices, and the programs compiled for it."""
  data, mesh, config = run.data, run.mesh, run.config
  train_split = (
    place(data.train_images, replicated(mesh)),
    place(data.train_labels, replicated(mesh)),
  )
  eval_batches = {
    split: make_batches(images, labels, config.eval.batch_size, mesh)
    for split, images, labels in (
      ("test", data.test_images, data.test_labels),
      (
        "train",
        data.train_images[: run.num_seen],
        data.train_labels[: run.num_seen],
      ),
    )
  }
  parts, batch_size = run.parts, config.train.batch_size
  loss_fn = factory.make_loss(config, parts.model, data)
  train_step = make_step(loss_fn, parts.tx, parts.controller)
  shardings = state_shardings(run.state, mesh, config.train.parameters)
  train_call = compiled_call(
    make_train_call(train_step, out_shardings=(shardings, replicated(mesh))),
    train_split,
    over_batches(mesh, axis=1, size=batch_size),
  )
  started = time.monotonic()
  for num_steps in {
    min(run.steps_per_call, run.steps_per_epoch),
    run.steps_per_epoch % run.steps_per_call,
  } - {0}:
    indices = np.zeros((num_steps, batch_size), np.int32)
    train_call(run.state, indices, run=False)
  run.log(
    "compiled    the training step in"
    f" {format_seconds(time.monotonic() - started)}"
  )
  eval_step = make_eval_step(parts.model.apply, preprocess=data.preprocess)
  # The last batch may be shorter; all are compiled before a signal can wait.
  for batches in eval_batches.values():
    for batch in (batches[0], batches[-1]):
      jax.block_until_ready(eval_step(run.state, batch, 1.0))
  return Programs(train_call, eval_step, eval_batches)


def digest_of(data: Dataset) -> int:
  """A checksum of the images and labels that decide a run."""
  checksum = 0
  for array in (data.train_images, data.train_labels, data.test_images):
    checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
  return checksum


def check_no_records(workdir: epath.Path) -> None:
  """Raises an ``InputError`` before the log of a run without states is lost."""
  path = workdir / METRICS_FILE
  # Two epochs may end before the first checkpoint is there.
  if path.exists() and path.read_bytes().count(b"\n") > 2:
    raise InputError(
      f"--workdir must hold the checkpoints of its run, got {workdir}, with"
      f" {METRICS_FILE} but none; --force_new starts afresh in a new folder"
    )
