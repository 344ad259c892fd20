"""A run that is open: its data, its state and its compiled programs."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sparse_regimes.data.streaming import is_streamed
from sparse_regimes.errors import InputError
from sparse_regimes.masks.statistics import Arithmetic
from sparse_regimes.references import is_reference
from sparse_regimes.runs import factory, processes
from sparse_regimes.runs.checkpoint import Checkpoints, has_checkpoints
from sparse_regimes.runs.epoch import (
  Feed,
  FromDevice,
  FromHost,
  default_steps_per_call,
)
from sparse_regimes.runs.evaluate import Batches, make_batches
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
from sparse_regimes.runs.task import check_steps, make_task
from sparse_regimes.runs.workdir import (
  open_workdir,
  store_constants,
  stored_constants,
)
from sparse_regimes.runs.writers import METRICS_FILE
from sparse_regimes.tasks import Task
from sparse_regimes.training.averaging import averaging
from sparse_regimes.training.call import make_train_call
from sparse_regimes.training.state import TrainState

Log = Callable[[str], None]


@dataclasses.dataclass
class OpenRun:
  """What a run has while it trains.

  Attributes:
    config: complete.
    workdir: its folder, which is this process's alone.
    log: takes a line at a time.
    task: what it learns, with its data.
    parts: model, optimizer, controller.
    arithmetic: of a forward pass.
    mesh: its devices.
    checkpoints: where states are saved.
    state: after the last step that was made.
    journal: what happened up to there.
    pauses: decides when the state is saved.
    steps_per_epoch: whole batches.
  """

  config: ConfigDict
  workdir: epath.Path
  log: Log
  task: Task
  parts: factory.Parts
  arithmetic: Arithmetic
  mesh: Mesh
  checkpoints: Checkpoints
  state: TrainState
  journal: Journal
  pauses: Pauses
  steps_per_epoch: int

  @property
  def epochs(self) -> int:
    """How many it is to have."""
    return self.config.train.epochs

  @property
  def is_finished(self) -> bool:
    """Whether it has them."""
    return len(self.journal.records) == self.epochs

  @property
  def is_streamed(self) -> bool:
    """Whether training examples are read as they are needed."""
    stream = self.config.data.stream
    return any(
      not isinstance(array, np.ndarray) or is_streamed(stream, array)
      for array in self.task.train_examples.values()
    )


class Programs(NamedTuple):
  """What a run calls, compiled, and what it evaluates.

  Attributes:
    feed: the training step, with where its batches come from.
    steps_per_call: of the compiled step, at most.
    eval_step: of the task.
    eval_batches: by evaluation set.
  """

  feed: Feed
  steps_per_call: int
  eval_step: Any
  eval_batches: dict[str, Batches]


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
      constants = stored_constants(workdir)
      task = make_task(config, log, constants)
      known = (constants or {}).get("digest", task.digest)
      if known != task.digest:
        raise InputError(
          f"data.name {config.data.name} is not what the run in {workdir} began"
          f" with (checksum {known:08x}, now {task.digest:08x}): put that back,"
          " or give another --workdir"
        )
      past = epath.Path(config.train.start_from)
      # A run that has begun needs it no longer.
      if config.train.start_from and not has_checkpoints(workdir):
        check_start(past, config, task)
    processes.check_same("data", task.digest)
    steps_per_epoch = task.num_train // config.train.batch_size
    parts = factory.make_parts(
      config, steps_per_epoch=steps_per_epoch, **task.arguments
    )
    arithmetic = factory.multiply_adds(parts.model, task.inputs)
    factory.check_budgets(parts.controller, arithmetic)
    if is_reference(config.task.name):
      described_state = jax.eval_shape(
        lambda: factory.make_state(config, parts, task.inputs, task)
      )
      check_steps(config, task, parts, described_state)
    mesh = make_mesh(config.train.batch_size, config.train.num_devices)
    stack.enter_context(jax.set_mesh(mesh))
    processes.on_first(
      lambda: stack.enter_context(open_workdir(workdir, config))
    )
    checkpoints = stack.enter_context(
      Checkpoints(workdir, keep=config.checkpoint.keep)
    )
    processes.on_first(
      lambda: store_constants(workdir, task.constants, task.digest)
    )
    state = factory.make_state(config, parts, task.inputs, task)
    shardings = state_shardings(state, mesh, config.train.parameters)
    restored = checkpoints.restore_latest(described(state, shardings), log)
    if restored is None:
      processes.on_first(lambda: check_no_records(workdir))
      if config.train.start_from:
        with processes.all_or_none():
          state = start_from(past, state, parts.tx, task, mesh, log)
      state = place_state(state, shardings)
      journal = Journal.of_task(task.metric, chosen_by(task))
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
      task=task,
      parts=parts,
      arithmetic=arithmetic,
      mesh=mesh,
      checkpoints=checkpoints,
      state=state,
      journal=journal,
      pauses=Pauses(config, checkpoints, journal, stop),
      steps_per_epoch=steps_per_epoch,
    )


def chosen_by(task: Task) -> str:
  """The number of a record that the best epoch has the best of."""
  of = "validation" if "validation" in task.evaluation_sets else "test"
  return f"{of}_dense_{task.choice}"


def compile_programs(run: OpenRun) -> Programs:
  """The data where it is to lie, and the programs compiled for it."""
  task, mesh, config = run.task, run.mesh, run.config
  eval_batches = {
    name: make_batches(examples, config.eval.batch_size, mesh)
    for name, examples in task.evaluation_sets.items()
  }
  feed = _make_feed(run)
  started = time.monotonic()
  size = config.train.steps_per_call or _steps_per_call(run, feed)
  # An epoch that was begun with calls of another size may end otherwise.
  left = run.steps_per_epoch - run.journal.step % run.steps_per_epoch
  for num_steps in {
    min(size, run.steps_per_epoch),
    min(size, left),
    run.steps_per_epoch % size,
    left % size,
  } - {0}:
    feed.compile(run.state, num_steps)
  run.log(
    "compiled    the training step in"
    f" {format_seconds(time.monotonic() - started)}, {size} a call"
  )
  eval_step = task.eval_step(run.parts.model)
  # The last batch may be shorter; all are compiled before a signal can wait.
  for batches in eval_batches.values():
    for batch in (batches[0], batches[-1]):
      jax.block_until_ready(eval_step(run.state, batch, 1.0))
  return Programs(feed, size, eval_step, eval_batches)


def _steps_per_call(run: OpenRun, feed: Feed) -> int:
  backend = jax.default_backend()
  # Of a network that does not tell: as if each parameter were used once.
  parameters = sum(p.size for p in jax.tree.leaves(run.state.params))
  return default_steps_per_call(
    backend,
    run.steps_per_epoch,
    is_streamed=run.is_streamed,
    convolves=backend == "cpu" and feed.convolves(run.state),
    every_steps=run.config.checkpoint.every_steps,
    multiply_adds=run.config.train.batch_size
    * (run.arithmetic[0] or parameters),
  )


def _make_feed(run: OpenRun) -> Feed:
  task, mesh, train = run.task, run.mesh, run.config.train
  parts, examples = run.parts, task.train_examples
  train_step = task.train_step(parts.model, parts.tx, parts.controller)
  if train.ema_decay:
    train_step = averaging(train_step, train.ema_decay)
  shardings = state_shardings(run.state, mesh, train.parameters)
  call = make_train_call(
    train_step,
    None if run.is_streamed else task.batch,
    out_shardings=(shardings, replicated(mesh)),
  )
  over = over_batches(mesh, axis=1, size=train.batch_size)
  if run.is_streamed:
    return FromHost(call, examples, over, train.batch_size)
  placed = {name: place(x, replicated(mesh)) for name, x in examples.items()}
  return FromDevice(call, placed, over, train.batch_size)


def check_no_records(workdir: epath.Path) -> None:
  """Raises an ``InputError`` before the log of a run without states is lost."""
  path = workdir / METRICS_FILE
  # Two epochs may end before the first checkpoint is there.
  if path.exists() and path.read_bytes().count(b"\n") > 2:
    raise InputError(
      f"--workdir must hold the checkpoints of its run, got {workdir}, with"
      f" {METRICS_FILE} but none; --force_new starts afresh in a new folder"
    )
