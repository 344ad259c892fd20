"""``calibrate``: thresholds for a run's network, without training it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from sparse_regimes.analysis.allocation import greedy_allocation
from sparse_regimes.analysis.calibration import (
  masks_of,
  output_error,
  site_tables,
  with_thresholds,
)
from sparse_regimes.errors import InputError
from sparse_regimes.files import read_json, write
from sparse_regimes.masks.activations import get_activation
from sparse_regimes.masks.quantiles import Quantiles
from sparse_regimes.runs.evaluate import evaluate, make_batches
from sparse_regimes.runs.mesh import make_mesh
from sparse_regimes.runs.past_run import PastRun, load_config, load_run
from sparse_regimes.tasks import length
from sparse_regimes.tree import by_path

CALIBRATION_FILE = "calibration.json"
_MAX_BYTES = 1 << 26
_SPARSITIES = (0.0, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Examples that the search of an allocation looks at.
_SEARCHED = 64
# By how much a swap of the activation may change a score before it is ruin.
_RUIN = 0.1
Log = Callable[[str], None]


def calibrate_runs(
  workdirs: Sequence[epath.Path],
  overrides: Sequence[str],
  which: str,
  *,
  target: float,
  num_examples: int,
  activation: str | None,
  log: Log = print,
) -> None:
  """Measures thresholds and says what they cost, for one run or several.

  Every run's folder gets ``calibration.json`` and ``calibration.md``, the first
  one's ``calibration.png`` with all of them.

  Args:
    workdirs: of runs on the same data.
    overrides: of their configs.
    which: ``best`` or ``last``.
    target: sparsity that the thresholds in the file are for, in ``(0, 1)``.
    num_examples: training examples to calibrate on.
    activation: to try in place of the network's, without tuning; or None.
    log: takes a line at a time.

  Raises:
    InputError: for a target out of range, an empty calibration set, a run of
      another kind of network.
  """
  if not 0 < target < 1:
    raise InputError(f"--target must be above 0 and below 1, got {target}")
  if num_examples < 1:
    raise InputError(
      f"--num_examples must be at least 1, got {num_examples}: the calibration"
      " set is empty"
    )
  loaded = [
    load_config(workdir, which, overrides, "--against" if i else "--workdir")
    for i, workdir in enumerate(workdirs)
  ]
  found = {}
  for workdir, config in zip(workdirs, loaded, strict=True):
    run = load_run(workdir, config, which, log)
    content = _calibrate(run, workdir, target, num_examples, activation, log)
    write(
      workdir / CALIBRATION_FILE,
      json.dumps(content, indent=1, allow_nan=False) + "\n",
    )
    text = _table(content)
    write(workdir / "calibration.md", text)
    log(f"\n{text}written     {CALIBRATION_FILE}, calibration.md in {workdir}")
    found[str(workdir)] = content
  # Drawing is slow to import, and training may do without.
  from sparse_regimes.reports import pictures
  from sparse_regimes.reports.calibrated import calibration_figure

  picture = pictures.png(calibration_figure(found))
  write(workdirs[0] / "calibration.png", picture)
  log(f"written     calibration.png in {workdirs[0]}")


def read_calibration(
  path: epath.Path, sites: Sequence[str]
) -> dict[str, np.ndarray]:
  """The tables of a file, for a network of these sites.

  Args:
    path: ``calibration.json``.
    sites: paths of the network's sites, as
      :func:`sparse_regimes.analysis.calibration.site_tables` has them.

  Raises:
    InputError: if it cannot be read, or is of other sites.
  """
  content = read_json(path, most=_MAX_BYTES)
  known = content.get("sites") if isinstance(content, dict) else None
  if not isinstance(known, dict):
    raise InputError(f"{path} must be a calibration, got something else")
  if [*known] != [*sites]:
    missing = [s for s in sites if s not in known] or [*known]
    raise InputError(
      f"{path} must have the {len(sites)} sites of the network, got"
      f" {len(known)} others: {', '.join(missing[:3])} do not match; calibrate"
      " this run"
    )
  return {
    site: np.asarray(each["quantiles"], np.float32)
    for site, each in known.items()
  }


def calibrated(run: PastRun, path: epath.Path) -> None:
  """Gives a run the thresholds of a file in place of its masks.

  Raises:
    InputError: if it cannot be read, or is of other sites than the network's.
  """
  sparse = with_thresholds(run.parts.model)
  described = jax.eval_shape(
    lambda: sparse.init(
      jax.random.key(0),
      jnp.zeros(run.task.inputs.shape, run.task.inputs.dtype),
      1.0,
    )
  )
  sites = by_path(
    described["masks"], is_leaf=lambda x: isinstance(x, Quantiles)
  )
  names = [name.removesuffix("/state") for name in sites]
  masks = masks_of(read_calibration(path, names))
  run.parts = run.parts._replace(model=sparse)
  run.state = run.state.replace(
    model_state={**run.state.model_state, "masks": masks}
  )


def _calibrate(
  run: PastRun,
  workdir: epath.Path,
  target: float,
  num_examples: int,
  activation: str | None,
  log: Log,
) -> dict[str, Any]:
  task, model, state = run.task, run.parts.model, run.state
  try:
    sparse = with_thresholds(model)
  except ValueError as error:
    raise InputError(f"--workdir {workdir}: {error}") from error
  log(f"calibrate   {workdir}, epoch {len(run.journal.records)}")
  learned = task.evaluation_sets.get("train", {})
  if not learned or not length(learned):
    raise InputError(
      "eval.num_train must be above 0, got 0: the calibration set is empty"
    )
  number = min(num_examples, length(learned))
  mesh = make_mesh(run.config.eval.batch_size, num_devices=1)
  chosen = {name: np.asarray(x[:number]) for name, x in learned.items()}
  batches = make_batches(chosen, run.config.eval.batch_size, mesh)
  inputs = [_inputs(task, batch) for batch in batches]
  tables = site_tables(model, state.variables, inputs)
  masks = masks_of(tables)
  log(f"measured    {len(tables)} sites on {number} training {task.unit}")
  error_of = output_error(sparse, state.variables, masks, inputs[0][:_SEARCHED])
  sizes = [1.0] * len(tables)
  # As many steps for few sites as for many.
  step = min(0.5, 0.05 * max(1.0, len(tables) / 4))
  log(
    f"search      about {int(0.9 * len(tables) ** 2 / step):,} evaluations of"
    f" {min(_SEARCHED, len(inputs[0]))} {task.unit}"
  )
  rows = greedy_allocation(error_of, sizes, max(0.9, target), step)
  test = make_batches(
    task.evaluation_sets["test"], run.config.eval.batch_size, mesh
  )
  by_topk = task.eval_step(model)
  by_threshold = task.eval_step(sparse)
  thresholded = state.replace(model_state={**state.model_state, "masks": masks})

  def score(step: Any, state: Any, sparsities: Any) -> dict[str, float]:
    ratio = 1 - np.asarray(sparsities, np.float32)
    measured = evaluate(step, state, test, ratio)
    return {
      "score": measured[task.choice],
      "active": measured["nonzero"],
    }

  points = []
  for sparsity in sorted({*_SPARSITIES, target}):
    greedy = nearest(rows, sparsity, len(tables))
    same = [sparsity] * len(tables)
    told: dict[str, Any] = {
      "sparsity": sparsity,
      "greedy_by_site": greedy,
      "uniform": score(by_threshold, thresholded, same)
      | {"error": error_of(np.asarray(same))},
      "greedy": score(by_threshold, thresholded, greedy)
      | {"error": error_of(np.asarray(greedy))},
      "topk": score(by_topk, state, same),
    }
    points.append(told)
    log(
      f"sparsity {sparsity:.2f}  {task.choice}: uniform"
      f" {told['uniform']['score']:.4f}  greedy {told['greedy']['score']:.4f}"
      f"  top-k {told['topk']['score']:.4f}"
    )
  at_target = nearest(rows, target, len(tables))
  content = {
    "workdir": str(workdir),
    "target": target,
    "num_examples": number,
    "score": task.choice,
    "controller": run.config.controller.name,
    "sites": {
      site: {
        "quantiles": [float(f"{q:.6g}") for q in table],
        "threshold_uniform": _threshold(table, target),
        "threshold_greedy": _threshold(table, sparsity),
        "sparsity_greedy": sparsity,
      }
      for (site, table), sparsity in zip(tables.items(), at_target, strict=True)
    },
    "rows": [row._asdict() for row in rows],
    "points": points,
  }
  if activation is not None:
    content["swap"] = _swap(run, test, activation, log)
  return content


def nearest(
  rows: Sequence[Any], sparsity: float, num_sites: int
) -> list[float]:
  """The sparsities by site of the row that is nearest to what is wanted."""
  dense = [0.0] * num_sites
  if not rows:
    return dense
  row = min(rows, key=lambda row: abs(row.sparsity - sparsity))
  return dense if sparsity < row.sparsity / 2 else [*row.by_site]


def _threshold(table: np.ndarray, sparsity: float) -> float:
  at = np.linspace(0, 1, len(table))
  return float(f"{np.interp(sparsity, at, table):.6g}")


def _inputs(task: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
  """What the network takes of a batch."""
  prepare = getattr(task, "inputs_of", None)
  if prepare is None:
    raise InputError(
      f"calibrate needs a task that says what its network takes (inputs_of),"
      f" got {type(task).__name__}"
    )
  return prepare(batch)


def _swap(run: PastRun, test: Any, activation: str, log: Log) -> dict[str, Any]:
  """What another activation does to a network that was not tuned for it."""
  task, model = run.task, run.parts.model
  try:
    get_activation(activation)
  except ValueError as error:
    raise InputError(f"--activation: {error}") from error
  swapped = model.clone(activation=activation)
  before, after = (
    evaluate(task.eval_step(m), run.state, test, 1.0)[task.choice]
    for m in (model, swapped)
  )
  worse = after - before if task.choice == "loss" else before - after
  log(
    f"activation  {activation} in place of {model.activation}, dense:"
    f" {task.choice} {before:.4f} -> {after:.4f}"
  )
  is_ruined = bool(worse > _RUIN * abs(before))
  if is_ruined:
    log(
      f"warning: {activation} without tuning ruins this network; a run with"
      f" --config.model.activation={activation} and train.start_from of this"
      " one tunes it"
    )
  return {
    "activation": activation,
    "before": before,
    "after": after,
    "ruined": is_ruined,
  }


def _table(content: Mapping[str, Any]) -> str:
  score = content["score"]
  lines = [
    f"| sparsity | {score}, uniform | greedy | top-k | error, uniform |"
    " greedy |",
    "|---|---|---|---|---|---|",
  ]
  for point in content["points"]:
    cells = (
      point["uniform"]["score"],
      point["greedy"]["score"],
      point["topk"]["score"],
      point["uniform"]["error"],
      point["greedy"]["error"],
    )
    numbers = " | ".join(f"{x:.4f}" for x in cells)
    lines.append(f"| {point['sparsity']:.2f} | {numbers} |")
  return "\n".join(lines) + "\n"
