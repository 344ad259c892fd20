"""The main job, read from top to bottom: from a config to a run folder."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sparse_regimes import checkpoint, factory, summary
from sparse_regimes.data.dataset import epoch_indices, normalize
from sparse_regimes.evaluate import evaluate, make_batches
from sparse_regimes.pace import Pace, format_seconds
from sparse_regimes.report import draw_curves
from sparse_regimes.state import TrainState
from sparse_regimes.step import (
  make_eval_step,
  make_train_call,
  make_train_step,
)
from sparse_regimes.workdir import create_workdir, write_json
from sparse_regimes.writers import MetricWriter, Progress, Record

# [num_steps] each, by name.
HostMetrics = Mapping[str, np.ndarray]

# A picture takes about half a second: draw no more than one in this time.
_SECONDS_BETWEEN_PICTURES = 20.0
# On TPU and GPU: enough steps a call to hide its dispatch.
_MAX_STEPS_PER_CALL = 100


def train(
  config: ConfigDict, workdir: Path, log: Callable[[str], None] = print
) -> dict[str, Any]:
  """Trains one network and writes all there is about it to ``workdir``.

  Args:
    config: complete, from :func:`sparse_regimes.config.load`.
    workdir: a folder that holds no run; made if need be.
    log: takes a line at a time.

  Returns:
    The summary, as in ``summary.json``.

  Raises:
    InputError: for what the user got wrong, before anything is compiled or
      written.
  """
  started = time.monotonic()

  # --- Data and static objects ----------------------------------------------
  data = factory.make_data(config, log)
  num_examples, batch_size = len(data.train_labels), config.train.batch_size
  epochs, steps_per_epoch = config.train.epochs, num_examples // batch_size
  steps_per_call = config.train.steps_per_call or default_steps_per_call(
    jax.default_backend(), steps_per_epoch
  )
  parts = factory.make_parts(
    config, num_classes=data.num_classes, steps_per_epoch=steps_per_epoch
  )
  create_workdir(workdir, config)

  # --- State and data on the device -------------------------------------------
  state = factory.make_state(config, parts, data.train_images.shape[1:])
  train_split = jax.device_put((data.train_images, data.train_labels))
  test_batches = make_batches(
    data.test_images, data.test_labels, config.eval.batch_size
  )
  for line in summary.describe_setup(
    config,
    data,
    state,
    steps_per_epoch=steps_per_epoch,
    steps_per_call=steps_per_call,
  ):
    log(line)

  # --- Compiled functions -----------------------------------------------------
  train_step = make_train_step(
    parts.model.apply, parts.tx, parts.controller, preprocess=normalize
  )
  eval_step = make_eval_step(parts.model.apply, preprocess=normalize)
  compile_started = time.monotonic()
  indices = epoch_indices(config.seed, 0, num_examples, batch_size)
  train_calls = {
    len(chunk): make_train_call(train_step)
    .lower(state, *train_split, chunk)
    .compile()
    for chunk in {len(c): c for c in _chunks(indices, steps_per_call)}.values()
  }
  log(
    "compiled    the training step in"
    f" {format_seconds(time.monotonic() - compile_started)}"
  )

  # --- Epochs -----------------------------------------------------------------
  pace = Pace(batch_size=batch_size, num_test_images=len(data.test_labels))
  records: list[Record] = []
  keep_ratios: list[np.ndarray] = []
  drawn = 0.0
  with (
    MetricWriter(workdir) as writer,
    checkpoint.make_manager(workdir) as manager,
    Progress(
      epochs=epochs,
      steps_per_epoch=steps_per_epoch,
      pace=pace,
      describe_cost=functools.partial(
        summary.describe_cost, epochs=epochs, steps_per_epoch=steps_per_epoch
      ),
    ) as progress,
  ):
    for epoch in range(1, epochs + 1):
      # --- Train ---
      progress.start_epoch(epoch)
      indices = epoch_indices(config.seed, epoch - 1, num_examples, batch_size)
      state, steps = _train_epoch(
        train_calls,
        state,
        train_split,
        _chunks(indices, steps_per_call),
        progress.steps,
      )

      # --- Evaluate: at the budget in force, and dense ---
      evaluation_started = time.monotonic()
      keep_ratio = state.controller_state.keep_ratio
      sparse = evaluate(eval_step, state, test_batches, keep_ratio)
      dense = evaluate(eval_step, state, test_batches, 1.0)
      pace.seconds_per_evaluation = time.monotonic() - evaluation_started

      # --- Record ---
      keep_ratios.append(steps["keep_ratio"])
      record = {
        "epoch": epoch,
        "step": epoch * steps_per_epoch,
        "learning_rate": float(parts.schedule(epoch * steps_per_epoch - 1)),
        **controller_record(state),
        "train_loss": float(np.mean(steps["loss"], dtype=np.float64)),
        "train_accuracy": float(np.mean(steps["accuracy"], dtype=np.float64)),
        "train_nonzero": float(np.mean(steps["nonzero"], dtype=np.float64)),
        **{f"test_sparse_{name}": value for name, value in sparse.items()},
        **{f"test_dense_{name}": value for name, value in dense.items()},
        "images_per_second": pace.images_per_second,
      }
      records.append(record)
      writer.write(record)
      progress.line(summary.describe_epoch(record, epochs))

      # --- Save and draw ---
      last = epoch == epochs
      best = max(records, key=summary.dense_accuracy) is record
      if last or best or epoch % config.checkpoint.every_epochs == 0:
        checkpoint.save(manager, epoch, state, record)
      if last or time.monotonic() - drawn > _SECONDS_BETWEEN_PICTURES:
        draw_curves(records, workdir / "curves.png")
        drawn = time.monotonic()

  # --- Summary ----------------------------------------------------------------
  keep_ratios.append(np.array([records[-1]["keep_ratio"]]))
  result = summary.summarize(
    config,
    records,
    np.concatenate(keep_ratios),
    seconds=time.monotonic() - started,
  )
  write_json(workdir / "summary.json", result)
  return result


def default_steps_per_call(backend: str, steps_per_epoch: int) -> int:
  """One step a call on CPU; elsewhere the largest divisor of an epoch to 100.

  On CPU a convolution inside ``lax.scan`` is some 36 times slower than outside.
  A divisor leaves no shorter last call, which would be compiled for, too.
  """
  if backend == "cpu":
    return 1
  most = min(_MAX_STEPS_PER_CALL, steps_per_epoch)
  divisor = max(n for n in range(1, most + 1) if steps_per_epoch % n == 0)
  # Where an epoch hardly divides, the second compilation costs less.
  return divisor if divisor >= most // 4 else most


def controller_record(state: TrainState) -> Record:
  """The controller's part of a record; null where it has no such quantity."""
  controller_state = state.controller_state
  patience = getattr(controller_state, "waiting", None)
  values = {
    "keep_ratio": controller_state.keep_ratio,
    "ema_accuracy": getattr(controller_state, "ema", None),
    "best_ema_accuracy": getattr(controller_state, "best_ema", None),
    "cooldown": getattr(controller_state, "cooldown", patience),
  }
  return {
    name: None if value is None else jax.device_get(value).item()
    for name, value in values.items()
  }


def _chunks(indices: np.ndarray, size: int) -> Iterator[np.ndarray]:
  for start in range(0, len(indices), size):
    yield indices[start : start + size]


def _train_epoch(
  train_calls: dict[int, Callable[..., Any]],
  state: TrainState,
  train_split: tuple[jax.Array, jax.Array],
  chunks: Iterator[np.ndarray],
  on_metrics: Callable[[HostMetrics], None],
) -> tuple[TrainState, HostMetrics]:
  """Runs the calls of an epoch; returns the state and every step's metrics.

  A call's metrics are fetched when the next call is on its way, so the device
  never waits for the host.
  """
  fetched: list[HostMetrics] = []

  def fetch(metrics: Any) -> None:
    fetched.append(jax.device_get(metrics))
    on_metrics(fetched[-1])

  pending = None
  for chunk in chunks:
    state, metrics = train_calls[len(chunk)](state, *train_split, chunk)
    if pending is not None:
      fetch(pending)
    pending = metrics
  fetch(pending)
  steps = {
    name: np.concatenate([metrics[name] for metrics in fetched])
    for name in fetched[0]
  }
  return state, steps
