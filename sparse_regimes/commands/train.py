"""The main job, read from top to bottom: from a config to a run folder."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from sparse_regimes.commands.recorder import Recorder, finish
from sparse_regimes.data.dataset import epoch_indices
from sparse_regimes.runs import summary
from sparse_regimes.runs.epoch import train_epoch
from sparse_regimes.runs.evaluate import evaluate
from sparse_regimes.runs.journal import Record
from sparse_regimes.runs.opened import (
  OpenRun,
  Programs,
  compile_programs,
  open_run,
)
from sparse_regimes.runs.stopping import Stopped, StopSignals
from sparse_regimes.training.averaging import EMA, averaged


class NotFinite(Exception):  # noqa: N818  # says what it is
  """A loss or a gradient that is not finite ended the run."""


def train(
  config: ConfigDict, workdir: epath.Path, log: Callable[[str], None] = print
) -> dict[str, Any]:
  """Trains one network and writes all there is about it to ``workdir``.

  A run that was stopped or killed goes on from its newest good checkpoint.
  Among several processes each calls this, with the same arguments.

  Args:
    config: complete, from :func:`sparse_regimes.runs.config.load`.
    workdir: a folder that holds no run, or one of this config.
    log: takes a line at a time.

  Returns:
    The summary, as in ``summary.json``.

  Raises:
    InputError: for what the user got wrong, before anything is compiled or
      written.
    Stopped: on SIGINT or SIGTERM, after the state was saved.
    NotFinite: if ``train.on_nonfinite`` is ``stop``; the checkpoints are good.
    OSError: if something could not be written.
  """
  with StopSignals() as stop, open_run(config, workdir, stop, log) as run:
    if run.is_finished:
      return finish(run)
    for line in summary.describe_setup(
      config,
      run.task,
      run.state,
      run.mesh,
      steps_per_epoch=run.steps_per_epoch,
      is_streamed=run.is_streamed,
    ):
      log(line)
    programs = compile_programs(run)
    with Recorder(run) as recorder:
      # From here on a signal is answered between two calls.
      stop.graceful = True
      stop.check()
      for epoch in range(len(run.journal.records) + 1, run.epochs + 1):
        trained = train_one_epoch(run, programs, recorder, epoch)
        measured = evaluate_all(run, programs, recorder)
        recorder.epoch(epoch, measured, trained=trained)
        is_last = epoch == run.epochs
        run.pauses.end_epoch(run.state, is_last=is_last)
        if not is_last:
          recorder.draw()
      run.checkpoints.wait()
      return finish(run)


def train_one_epoch(
  run: OpenRun, programs: Programs, recorder: Recorder, epoch: int
) -> bool:
  """Makes the steps that an epoch lacks; returns whether it lacked any."""
  made = run.journal.step - (epoch - 1) * run.steps_per_epoch
  recorder.progress.start_epoch(epoch, made)
  indices = epoch_indices(
    run.config.seed,
    epoch - 1,
    run.task.num_train,
    run.config.train.batch_size,
  )

  def account(metrics: Any) -> None:
    steps = recorder.steps(metrics)
    if run.config.train.on_nonfinite == "stop":
      stop_if_not_finite(steps, run.journal.step, epoch)

  try:
    run.state = train_epoch(
      programs.feed,
      run.state,
      indices[made:],
      programs.steps_per_call,
      account,
      run.pauses,
      run.journal.step,
    )
  except NotFinite:
    recorder.diverged(epoch)
    raise
  return made < run.steps_per_epoch


def evaluate_all(
  run: OpenRun, programs: Programs, recorder: Recorder
) -> Record:
  """Evaluates every set at the budget in force, and dense.

  With a moving average of the parameters, the test set with that, too.
  """
  started = time.monotonic()
  keep_ratio = run.state.controller_state.keep_ratio
  run.journal.budget.see(run.journal.step + 1, float(np.mean(keep_ratio)))
  jobs = [(name, name, run.state) for name in programs.eval_batches]
  if run.config.train.ema_decay:
    jobs.append((EMA, "test", averaged(run.state)))
  try:
    measured = {
      f"{name}_{budget}_{number}": value
      for name, batches, state in jobs
      for budget, ratio in (("sparse", keep_ratio), ("dense", 1.0))
      for number, value in evaluate(
        programs.eval_step,
        state,
        programs.eval_batches[batches],
        ratio,
        run.pauses.give_up,
      ).items()
    }
  except Stopped:
    run.pauses.save(run.state, stopping=True)
    raise
  recorder.pace.seconds_per_evaluation = time.monotonic() - started
  # Of training examples the share that is nonzero is known from the steps.
  return {
    name: value
    for name, value in measured.items()
    if name not in ("train_sparse_nonzero", "train_dense_nonzero")
  }


def stop_if_not_finite(
  steps: Mapping[str, np.ndarray], last: int, epoch: int
) -> None:
  """Raises :class:`NotFinite` if one of these latest steps was skipped."""
  skipped = np.flatnonzero(steps["skipped"])
  if skipped.size:
    first = int(skipped[0])
    what = "gradient" if np.isfinite(steps["loss"][first]) else "loss"
    step = last - len(steps["loss"]) + first + 1
    raise NotFinite(
      f"the training {what} was not finite in epoch {epoch}, step {step}; the"
      " last checkpoint is good. --config.train.on_nonfinite=skip goes on from"
      " there; a lower optimizer.learning_rate wants --force_new"
    )
