"""``--mode=measure``: sparsity, flatness and spectra over a run's epochs."""

import contextlib
import statistics
import time
from collections.abc import (
  Callable,
  Container,
  Iterator,
  Mapping,
  Sequence,
)
from typing import Any

import jax
from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.masks.activations import flat_part
from sparse_regimes.runs import factory
from sparse_regimes.runs.checkpoint import DamagedError
from sparse_regimes.runs.pace import format_seconds
from sparse_regimes.runs.past_run import (
  describe_run,
  kept_epochs,
  load_config,
  restore_number,
)
from sparse_regimes.runs.tables import (
  MEASURES_FILE,
  read_measures,
  write_measures,
)
from sparse_regimes.runs.task import make_task
from sparse_regimes.runs.workdir import stored_constants

# What measures depend on, and how it is given.
_ARGUMENTS = {
  "num_images": "--num_images",
  "config": "--config overrides",
  "dtype": "--config.model.dtype",
}


def measure_run(
  workdir: epath.Path,
  overrides: Sequence[str] = (),
  *,
  num_images: int = 256,
  hessian_samples: int = 16,
  log: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Measures a run, dense, before its first step and after its epochs.

  It computes in float32, unless the config says otherwise. A run keeps its
  latest ``checkpoint.keep`` epochs, and the best. What it began
  with is made again from its seed (epoch 0), unless it began with another run.
  Sparsity,
  flatness and sharpness are those of the first training images, robustness that
  of the first test images. The trace of the Hessian costs several passes a
  sample, so it is estimated for the last epoch alone.

  Args:
    workdir: of the run; gets ``measures.json``, and its page anew. Epochs that
      are there already, with the same numbers, are not measured again.
    overrides: of its config.
    num_images: of either split, at least 1; at most as many as there are.
    hessian_samples: at least 0; 0 leaves the trace out.
    log: takes a line at a time.

  Returns:
    The content of the file: ``num_images``, ``hessian_samples``, ``config``
    (the overrides), ``dtype`` and ``epochs``, a dict each: ``epoch``, ``step``,
    ``keep_ratio`` (in force), ``test_dense_accuracy`` (of all test images;
    null for epoch 0),
    ``fgsm_accuracy`` (a step of 1/255) beside ``accuracy`` of the same images,
    ``sharpness`` (radius 0.05),
    ``sites`` (by name, of :class:`sparse_regimes.analysis.Measures`),
    ``spectra`` (by path, of :class:`sparse_regimes.analysis.Concentration`),
    and ``hessian_trace`` with its standard error ``hessian_error``, null but
    for the last.

  Raises:
    InputError: if it is no run or has no checkpoint of an epoch's end, for a
      number that is out of range, for a config of another network, or if epochs
      that are no longer there were measured with other settings.
  """
  for name, number, least in (
    ("--num_images", num_images, 1),
    ("--hessian_samples", hessian_samples, 0),
  ):
    if number < least:
      raise InputError(f"{name} must be at least {least}, got {number}")
  config = load_config(workdir, "last", overrides)
  kept = kept_epochs(workdir, log)
  if not kept:
    raise InputError(
      f"--workdir must hold a checkpoint of an epoch's end, got {workdir}"
    )
  if config.model.get("dtype") == "auto":
    # Sharpness is the difference of two losses that are nearly equal.
    config.model.dtype = "float32"
  settings = {
    "num_images": num_images,
    "config": [*overrides],
    "dtype": config.model.get("dtype", "float32"),
  }
  content = _begun(workdir, settings, kept)
  rows = {row["epoch"]: row for row in content["epochs"]}
  if content.get("hessian_samples", hessian_samples) != hessian_samples:
    rows.pop(config.train.epochs, None)
  content["hessian_samples"] = hessian_samples
  begun_anew = not config.train.start_from
  left = [e for e in (*[0] * begun_anew, *kept) if e not in rows]
  task = make_task(config, log, stored_constants(workdir))
  if not hasattr(task, "measure"):
    raise InputError(
      f"task.name {config.task.name} cannot be measured: it has no measure"
    )
  parts, template = describe_run(workdir, config, task)
  # A model from outside may not say where its activation is flat.
  flat = None
  if "activation" in config.model:
    flat = flat_part(config.model.activation, config.model.get("shift_x", 0.0))
  started = time.monotonic()
  for done, epoch in enumerate(left, start=1):
    if epoch:
      try:
        state, journal = restore_number(workdir, kept[epoch], template)
      except DamagedError as error:
        log(f"checkpoint  {kept[epoch]} is damaged: skipped ({error})")
        continue
      record = journal.records[-1]
    else:
      state = factory.make_state(config, parts, task.inputs, task)
      keep_ratio = float(state.controller_state.keep_ratio)
      record = {"epoch": 0, "step": 0, "keep_ratio": keep_ratio}
    last = epoch == config.train.epochs
    names = ("epoch", "step", "keep_ratio", "test_dense_accuracy")
    # By default an accelerator multiplies float32 in fewer bits.
    with jax.default_matmul_precision("highest"), _of_model():
      measured = task.measure(
        parts.model,
        state,
        num_examples=num_images,
        flat=flat,
        hessian_samples=hessian_samples if last else 0,
      )
    rows[epoch] = {name: record.get(name) for name in names} | measured
    content["epochs"] = [rows[e] for e in sorted(rows)]
    # What was measured otherwise is kept until a checkpoint could be read.
    if set(rows) - {0}:
      write_measures(workdir, content)
    seconds = (time.monotonic() - started) / done * (len(left) - done)
    log(
      f"measured    epoch {epoch}: {_told(rows[epoch])};"
      f" about {format_seconds(seconds)} left"
    )
  if not set(rows) - {0}:
    raise InputError(
      f"--workdir must hold a checkpoint that can be read, got {workdir}"
    )
  # Drawing is slow to import, and training may do without.
  from sparse_regimes.reports.run_page import write_report

  log(f"written     {MEASURES_FILE} in {workdir}, {len(rows)} epochs")
  log(f"written     {write_report(workdir)}")
  return content


@contextlib.contextmanager
def _of_model() -> Iterator[None]:
  """Networks from outside may have no layers that can be looked into."""
  try:
    yield
  except ValueError as error:
    raise InputError(f"model.name cannot be measured: {error}") from error


def _begun(
  workdir: epath.Path, settings: Mapping[str, Any], kept: Container[int]
) -> dict[str, Any]:
  """The content so far; empty if that was measured with other settings."""
  path = workdir / MEASURES_FILE
  if not path.exists():
    return {**settings, "epochs": []}
  content = read_measures(workdir)
  differing = [n for n in settings if settings[n] != content.get(n)]
  if not differing:
    return content
  gone = [row["epoch"] for row in content["epochs"]]
  gone = [epoch for epoch in gone if epoch and epoch not in kept]
  if gone:
    name = differing[0]
    raise InputError(
      f"{_ARGUMENTS[name]} must be {content.get(name)!r}, as in {path}, got"
      f" {settings[name]!r}: {len(gone)} epochs that it has are no longer there"
      " to be measured anew; move it away if they are not needed"
    )
  return {**settings, "epochs": []}


def _told(row: Mapping[str, Any]) -> str:
  active = statistics.fmean(site["active"] for site in row["sites"].values())
  return f"active {active:.4f}, FGSM accuracy {row['fgsm_accuracy']:.4f}"
