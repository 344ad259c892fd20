"""Thresholds for runs that were trained without them, from the command line."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import TINY_RUN, TINY_TEXT

import sparse_regimes as sr
from sparse_regimes.analysis import calibration
from sparse_regimes.analysis.allocation import greedy_allocation
from sparse_regimes.commands.calibrate import nearest
from sparse_regimes.main import main
from sparse_regimes.masks.quantiles import Quantiles, threshold


def run(*arguments):
  with jax.numpy_dtype_promotion("standard"):
    return main([*map(str, arguments)])


@pytest.fixture
def runs(once):
  """A run of images and one of text."""

  def make(folder):
    for config in (TINY_RUN, TINY_TEXT):
      code = run(
        *(f"--config={config}", f"--workdir={folder / Path(config).stem}"),
        *("--config.train.num_devices=1", "--config.train.epochs=1"),
      )
      assert code == 0

  return once("calibrate_runs", make)


@pytest.mark.run
@pytest.mark.parametrize("name", ["tiny_run", "tiny_text"])
def test_what_is_written(runs, name, capsys):
  folder = runs / name
  code = run(
    *("calibrate", f"--workdir={folder}", "--target=0.6", "--num_examples=64"),
    "--activation=softplus",
  )
  printed = capsys.readouterr()
  assert code == 0, printed.err
  content = json.loads((folder / "calibration.json").read_text())
  assert (folder / "calibration.png").stat().st_size > 10_000
  table = (folder / "calibration.md").read_text()
  assert "| 0.60 |" in table
  assert content["swap"]["activation"] == "softplus"
  is_ruined = content["swap"]["ruined"]
  assert ("without tuning ruins" in printed.out) == is_ruined
  # At no sparsity thresholds change nothing, to the bit.
  first, *rest = content["points"]
  assert first["uniform"] == first["greedy"]
  assert first["uniform"]["error"] == 0
  assert first["uniform"]["score"] == first["topk"]["score"]
  active = [first["uniform"]["active"], *(p["uniform"]["active"] for p in rest)]
  assert active == sorted(active, reverse=True)
  assert active[-1] < 0.25
  rows = content["rows"]
  at_most = [row["error"] <= row["uniform_error"] for row in rows]
  assert sum(at_most) >= 0.95 * len(rows)
  assert sum(content["points"][-1]["greedy_by_site"]) > 0
  # What is in the file is what eval takes.
  code = run(
    *("eval", f"--workdir={folder}", "--keep_ratios=1,0.4"),
    f"--calibration={folder / 'calibration.json'}",
  )
  assert code == 0
  swept = json.loads((folder / "sweep.json").read_text())["rows"]
  at = {point["sparsity"]: point for point in content["points"]}
  score = content["score"]
  assert swept[1][score] == pytest.approx(at[0.6]["uniform"]["score"], rel=1e-3)


@pytest.mark.run
@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--target=0"], "--target must be above 0 and below 1, got 0.0"),
    (["--target=1.5"], "--target must be above 0 and below 1, got 1.5"),
    (["--num_examples=0"], "got 0: the calibration set is empty"),
    (["--activation=rleu"], "--activation: activation must be one of"),
  ],
)
def test_mistakes_are_a_line(runs, capsys, arguments, message):
  code = run("calibrate", f"--workdir={runs / 'tiny_run'}", *arguments)
  assert code == 2
  assert message in capsys.readouterr().err


@pytest.mark.run
def test_thresholds_of_another_network_are_refused(runs, tmp_path, capsys):
  path = tmp_path / "other.json"
  path.write_text(json.dumps({"sites": {"block7/site": {"quantiles": []}}}))
  for content, message in (
    (path.read_text(), "must have the"),
    ("[]", "must be a calibration"),
  ):
    path.write_text(content)
    code = run(
      *("eval", f"--workdir={runs / 'tiny_run'}", f"--calibration={path}")
    )
    assert code == 2
    assert message in capsys.readouterr().err


def test_tables_are_those_of_the_scores():
  model = sr.models.ResidualMLP(width=32, depth=2, activation="gelu")
  x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 4, 4, 3)))
  x = x.astype(jnp.float32)
  variables = model.init(jax.random.key(0), x, 1.0)
  tables = calibration.site_tables(model, variables, [x[:40], x[40:]])
  assert [*tables] == ["block0/site", "block1/site"]
  sparse = calibration.with_thresholds(model)
  masks = calibration.masks_of(tables)
  for r in (0.05, 0.3, 0.5, 0.8):
    _, stats = sparse.apply({**variables, "masks": masks}, x, r)
    # On the set they were measured on, within half a percent.
    np.testing.assert_allclose(stats, r, atol=0.005)
  # A site's own budget, and none for the other.
  ratio = jnp.array([1.0, 0.25])
  _, stats = sparse.apply({**variables, "masks": masks}, x, ratio)
  np.testing.assert_allclose(stats, [1.0, 0.25], atol=0.005)
  error = calibration.output_error(sparse, variables, masks, x)
  assert error(np.zeros(2)) == 0
  errors = [error(np.full(2, s)) for s in (0.2, 0.4, 0.6, 0.8)]
  assert errors[-1] > 2 * errors[0]
  rows = greedy_allocation(error, [1, 1], 0.8, 0.1)
  assert all(row.error <= row.uniform_error for row in rows)
  state = Quantiles(jnp.asarray(tables["block0/site"]), jnp.int32(1))
  assert float(threshold(state, 0.5)) == pytest.approx(
    float(np.median(tables["block0/site"])), abs=1e-3
  )


def test_the_row_that_is_nearest():
  rows = greedy_allocation(lambda s: s[0] + 2 * s[1], [1, 1], 0.5, 0.25)
  assert nearest(rows, 0.0, 2) == [0.0, 0.0]
  assert nearest(rows, 0.26, 2) == [0.5, 0.0]
  assert nearest([], 0.5, 2) == [0.0, 0.0]


def test_a_network_without_masks_is_named():
  from flax import linen as nn

  with pytest.raises(
    ValueError, match="model must have a field mask, got Dense"
  ):
    calibration.with_thresholds(nn.Dense(3))
  with pytest.raises(ValueError, match="must have a batch, got none"):
    calibration.site_tables(sr.models.ResidualMLP(), {}, [])
