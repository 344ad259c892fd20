"""The main job, read from top to bottom: from a config to a run folder."""

import contextlib
import functools
import json
import shlex
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from etils import epath
from ml_collections import ConfigDict

from sparse_regimes import factory, figures, processes, summary
from sparse_regimes.checkpoint import Checkpoints, has_checkpoints
from sparse_regimes.controllers import innermost
from sparse_regimes.data.dataset import Dataset, epoch_indices, normalize
from sparse_regimes.epoch import (
  compiled_call,
  default_steps_per_call,
  train_epoch,
)
from sparse_regimes.errors import InputError
from sparse_regimes.eval_step import make_eval_step
from sparse_regimes.evaluate import evaluate, make_batches
from sparse_regimes.files import write
from sparse_regimes.journal import RECORD_NAMES, Journal, Record, finite
from sparse_regimes.mesh import (
  described,
  make_mesh,
  over_batches,
  place,
  place_state,
  replicated,
  state_shardings,
)
from sparse_regimes.metrics import Arithmetic
from sparse_regimes.optimizer import learning_rate_of
from sparse_regimes.pace import Pace, format_seconds
from sparse_regimes.pauses import Pauses
from sparse_regimes.report import ENVIRONMENT_FILE, write_report
from sparse_regimes.start_from import check_start, start_from
from sparse_regimes.state import TrainState
from sparse_regimes.step import make_train_call, make_train_step
from sparse_regimes.stopping import Stopped, StopSignals
from sparse_regimes.trace import Trace
from sparse_regimes.workdir import open_workdir
from sparse_regimes.writers import (
  METRICS_FILE,
  MetricWriter,
  Progress,
  write_records,
)

# A picture takes about half a second: draw no more than one in this time.
_SECONDS_BETWEEN_PICTURES = 20.0


class NotFinite(Exception):  # noqa: N818  # says what it is
  """A loss or a gradient that is not finite ended the run."""


def train(
  config: ConfigDict, workdir: epath.Path, log: Callable[[str], None] = print
) -> dict[str, Any]:
  """Trains one network and writes all there is about it to ``workdir``.

  A run that was stopped or killed goes on from its newest good checkpoint.
  Among several processes each calls this, with the same arguments.

  Args:
    config: complete, from :func:`sparse_regimes.config.load`.
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
  with StopSignals() as stop, contextlib.ExitStack() as stack:
    # --- Data and static objects --------------------------------------------
    with processes.all_or_none():
      data = factory.make_data(config, log)
      past = epath.Path(config.train.start_from)
      # A run that has begun needs it no longer.
      if config.train.start_from and not has_checkpoints(workdir):
        check_start(past, config, data)
    processes.check_same("data", digest_of(data))
    epochs, batch_size = config.train.epochs, config.train.batch_size
    num_examples = len(data.train_labels)
    steps_per_epoch = num_examples // batch_size
    steps_per_call = config.train.steps_per_call or default_steps_per_call(
      jax.default_backend(), steps_per_epoch
    )
    parts = factory.make_parts(
      config, num_classes=data.num_classes, steps_per_epoch=steps_per_epoch
    )
    arithmetic = factory.multiply_adds(parts.model, data)
    factory.check_budgets(parts.controller, arithmetic)
    mesh = make_mesh(batch_size, config.train.num_devices)
    stack.enter_context(jax.set_mesh(mesh))
    processes.on_first(
      lambda: stack.enter_context(open_workdir(workdir, config))
    )

    # --- State: as it was saved, or new -------------------------------------
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
        f" {len(journal.records)} of {epochs} epochs finished"
      )
      if len(journal.records) == epochs:
        return _finish(config, workdir, journal, arithmetic, log)
    for line in summary.describe_setup(
      config,
      data,
      state,
      mesh,
      steps_per_epoch=steps_per_epoch,
      steps_per_call=steps_per_call,
    ):
      log(line)

    # --- Data on the devices, compiled functions ----------------------------
    pauses = Pauses(config, checkpoints, journal, stop)
    train_split = (
      place(data.train_images, replicated(mesh)),
      place(data.train_labels, replicated(mesh)),
    )
    num_seen = min(config.eval.num_train, num_examples)
    eval_batches = {
      split: make_batches(images, labels, config.eval.batch_size, mesh)
      for split, images, labels in (
        ("test", data.test_images, data.test_labels),
        ("train", data.train_images[:num_seen], data.train_labels[:num_seen]),
      )
    }
    train_step = make_train_step(
      parts.model.apply, parts.tx, parts.controller, preprocess=normalize
    )
    train_call = compiled_call(
      make_train_call(train_step, out_shardings=(shardings, replicated(mesh))),
      train_split,
      over_batches(mesh, axis=1, size=batch_size),
    )
    compile_started = time.monotonic()
    for num_steps in {
      min(steps_per_call, steps_per_epoch),
      steps_per_epoch % steps_per_call,
    } - {0}:
      train_call(state, np.zeros((num_steps, batch_size), np.int32), run=False)
    log(
      "compiled    the training step in"
      f" {format_seconds(time.monotonic() - compile_started)}"
    )
    eval_step = make_eval_step(parts.model.apply, preprocess=normalize)
    # The last batch may be shorter; all are compiled before a signal can wait.
    for batches in eval_batches.values():
      for batch in (batches[0], batches[-1]):
        jax.block_until_ready(eval_step(state, batch, 1.0))

    # --- Reports ------------------------------------------------------------
    if processes.is_first():
      # Of a run that diverged, or was shorter, and goes on.
      (workdir / summary.SUMMARY_FILE).unlink(missing_ok=True)
      command = {"command": shlex.join(sys.orig_argv)}
      write(
        workdir / ENVIRONMENT_FILE,
        json.dumps(command | summary.environment(), indent=2) + "\n",
      )
    pace = Pace(
      batch_size=batch_size, num_test_images=len(data.test_labels) + num_seen
    )
    writer = stack.enter_context(MetricWriter(workdir, journal.records))
    progress = stack.enter_context(
      Progress(
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        pace=pace,
        describe_cost=functools.partial(
          summary.describe_cost, epochs=epochs, steps_per_epoch=steps_per_epoch
        ),
        first_step=journal.step,
      )
    )
    drawn = time.monotonic()
    # From here on a signal is answered between two calls.
    stop.graceful = True
    stop.check()

    def account(metrics: Any) -> None:
      steps = jax.device_get(metrics)
      journal.add_steps(steps)
      progress.steps(steps)
      if config.train.on_nonfinite == "stop":
        stop_if_not_finite(steps, journal, epoch)

    # --- Epochs ---------------------------------------------------------------
    for epoch in range(len(journal.records) + 1, epochs + 1):
      # --- Train ------------------------------------------------------------
      made = journal.step - (epoch - 1) * steps_per_epoch
      progress.start_epoch(epoch, made)
      indices = epoch_indices(config.seed, epoch - 1, num_examples, batch_size)
      made_now = made < steps_per_epoch
      try:
        state = train_epoch(
          *(train_call, state, indices[made:], steps_per_call),
          *(account, pauses, journal.step),
        )
      except NotFinite:
        writer.write([*journal.records, unfinished_record(journal, epoch)])
        pauses.update_seconds()
        # As far as it came, for tables of many runs.
        _finish(config, workdir, journal, arithmetic, log, diverged=True)
        raise

      # --- Evaluate: at the budget in force, and dense ----------------------
      evaluation_started = time.monotonic()
      keep_ratio = state.controller_state.keep_ratio
      journal.budget.see(journal.step + 1, float(np.mean(keep_ratio)))
      try:
        measured = {
          f"{split}_{budget}_{name}": value
          for split, batches in eval_batches.items()
          for budget, ratio in (("sparse", keep_ratio), ("dense", 1.0))
          for name, value in evaluate(
            eval_step, state, batches, ratio, pauses.give_up
          ).items()
        }
      except Stopped:
        pauses.save(state, stopping=True)
      pace.seconds_per_evaluation = time.monotonic() - evaluation_started

      # --- Record -----------------------------------------------------------
      measured |= {
        "epoch": epoch,
        "step": journal.step,
        "learning_rate": learning_rate(parts.schedule, state, journal),
        **controller_record(state),
        "train_loss": journal.mean("loss"),
        "train_accuracy": journal.mean("accuracy"),
        "train_nonzero": journal.mean("nonzero"),
        # Unknown where a run goes on with an evaluation.
        "images_per_second": pace.images_per_second if made_now else None,
      }
      journal.end_epoch(measured)
      writer.write(journal.records)
      progress.line(
        summary.describe_epoch(measured, journal, epochs, arithmetic)
      )

      # --- Save and draw ----------------------------------------------------
      is_last = epoch == epochs
      pauses.end_epoch(state, is_last=is_last)
      late = time.monotonic() - drawn > _SECONDS_BETWEEN_PICTURES
      if processes.is_first() and late and not is_last:
        Trace.of(journal, arithmetic).write(workdir)
        _draw_curves(workdir, journal, arithmetic)
        drawn = time.monotonic()

    checkpoints.wait()
    return _finish(config, workdir, journal, arithmetic, log)


def controller_record(state: TrainState) -> Record:
  """The controller's part of a record; null where it has no such quantity."""
  controller_state = innermost(state.controller_state)
  patience = getattr(controller_state, "waiting", None)
  values = {
    "keep_ratio": controller_state.keep_ratio,
    "ema_accuracy": getattr(controller_state, "ema", None),
    "best_ema_accuracy": getattr(controller_state, "best_ema", None),
    "cooldown": getattr(controller_state, "cooldown", patience),
  }
  return {
    name: None if value is None else np.mean(jax.device_get(value)).item()
    for name, value in values.items()
  }


def learning_rate(
  schedule: optax.Schedule, state: TrainState, journal: Journal
) -> float:
  """The rate of the last step."""
  used = learning_rate_of(state.opt_state)
  if used is not None:
    return used
  # A step that was skipped is none to the schedule.
  return float(schedule(max(0, journal.step - journal.skipped - 1)))


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


def stop_if_not_finite(
  steps: Mapping[str, np.ndarray], journal: Journal, epoch: int
) -> None:
  """Raises :class:`NotFinite` if one of these latest steps was skipped."""
  skipped = np.flatnonzero(steps["skipped"])
  if skipped.size:
    first = int(skipped[0])
    what = "gradient" if np.isfinite(steps["loss"][first]) else "loss"
    step = journal.step - len(steps["loss"]) + first + 1
    raise NotFinite(
      f"the training {what} was not finite in epoch {epoch}, step {step}; the"
      " last checkpoint is good. --config.train.on_nonfinite=skip goes on from"
      " there; a lower optimizer.learning_rate wants --force_new"
    )


def unfinished_record(journal: Journal, epoch: int) -> Record:
  """What is known of an epoch that was broken off; null for the rest."""
  known = {
    "epoch": epoch,
    "step": journal.step,
    "keep_ratio": journal.budget.last,
    "train_accuracy": journal.mean("accuracy"),
    "train_nonzero": journal.mean("nonzero"),
  }
  return finite({name: known.get(name) for name in RECORD_NAMES})


def _finish(
  config: ConfigDict,
  workdir: epath.Path,
  journal: Journal,
  arithmetic: Arithmetic,
  log: Callable[[str], None],
  *,
  diverged: bool = False,
) -> dict[str, Any]:
  """Writes what a run came to."""
  result = summary.summarize(config, journal, arithmetic)
  result["diverged"] = diverged
  if processes.is_first():
    if journal.records:
      if not diverged:
        # Of a run that had ended before, what was deleted is there again.
        write_records(workdir, journal.records)
      Trace.of(journal, arithmetic).write(workdir)
      _draw_curves(workdir, journal, arithmetic)
      try:
        write_report(workdir, seconds=journal.seconds)
      except InputError as error:
        # A file beside the run is damaged; the run is not.
        log(f"no page     {error}")
    # Last: with it a run counts as finished, and nothing of it is missing.
    write(workdir / summary.SUMMARY_FILE, json.dumps(result, indent=2) + "\n")
  return result


def _draw_curves(
  workdir: epath.Path, journal: Journal, arithmetic: Arithmetic
) -> None:
  figure = figures.curves(journal.records, Trace.of(journal, arithmetic))
  write(workdir / "curves.png", figures.png(figure))
