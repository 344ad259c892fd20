import csv
import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from PIL import Image
from tiny import TinyNet, init, tiny_state

from sparse_regimes import (
  WideResNet,
  controllers,
  make_eval_step,
  sparse_activation,
)
from sparse_regimes.analysis.budget_sweep import (
  SITES,
  TOTALS,
  _in_order,
  make_sweep_step,
  sweep,
)
from sparse_regimes.data.dataset import normalize
from sparse_regimes.errors import InputError
from sparse_regimes.masks.activations import get_activation
from sparse_regimes.masks.statistics import site_sums
from sparse_regimes.reports import pictures, sweep_figures
from sparse_regimes.runs.evaluate import evaluate, make_batches
from sparse_regimes.runs.mesh import make_mesh, place_state, state_shardings
from sparse_regimes.runs.tables import read_sweep, write_sweep
from sparse_regimes.training.metrics import calibration_error, calibration_sums
from sparse_regimes.training.optimizer import sgd

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (23, 4, 4, 3), np.uint8)
LABELS = RNG.integers(0, 10, 23).astype(np.int32)


def swept(keep_ratios):
  model, mesh = TinyNet(), make_mesh(8, 1)
  state = tiny_state(model, sgd(0.1), controllers.constant())
  state = place_state(state, state_shardings(state, mesh, "replicated"))
  batches = make_batches({"images": IMAGES, "labels": LABELS}, 8, mesh)
  step = make_sweep_step(model.apply, preprocess=normalize)
  rows = sweep(step, state, batches, keep_ratios)
  assert step._cache_size() == 2  # the last batch is shorter
  return model, state, batches, rows


@pytest.mark.slow
def test_totals_are_those_of_an_evaluation():
  ratios = [1.0, 0.3, 0.05]
  model, state, batches, rows = swept(ratios)
  eval_step = make_eval_step(model.apply, preprocess=normalize)
  for ratio, row in zip(ratios, rows, strict=True):
    expected = evaluate(eval_step, state, batches, ratio)
    assert row["site_nonzero"] == pytest.approx(expected.pop("sites"))
    for name, value in expected.items():
      assert row[name] == pytest.approx(value, rel=1e-5)
    assert row["keep_ratio"] == ratio


@pytest.mark.slow
def test_sites_follow_their_definitions():
  model, state, _, rows = swept([0.3])
  inner = model.apply(
    state.variables,
    normalize(IMAGES),
    0.3,
    train=False,
    capture_intermediates=True,
    mutable=["intermediates"],
  )[1]["intermediates"]
  dense = np.maximum(np.asarray(inner["BatchNorm_0"]["__call__"][0]), 0)
  sparse = np.asarray(inner["SparseActivation_0"]["__call__"][0])
  (row,) = rows
  smallest = [min(y[y > 0], default=0.0) for y in sparse]
  assert row["site_threshold"] == [pytest.approx(np.mean(smallest), rel=1e-5)]
  assert row["site_kept_mass"] == [
    pytest.approx(sparse.sum() / dense.sum(), rel=1e-5)
  ]
  assert row["site_dead"] == [np.mean(~(sparse > 0).any(0))]
  assert row["site_nonzero"] == [pytest.approx(np.mean(sparse != 0))]


def test_a_site_where_nothing_is_active():
  zeros = jnp.zeros((2, 3, 4))
  sums = site_sums(zeros, zeros)
  assert (sums.threshold, sums.kept, sums.total) == (0, 0, 0)
  assert not sums.active.any()


def test_sites_are_in_the_order_of_the_network():
  model = WideResNet(16, 1)  # more than ten sites: 10 sorts behind 9
  images = jnp.ones((2, 8, 8, 3))
  variables = init(model, images)
  assert set(variables) == {"params"}
  _, collected = jax.eval_shape(
    lambda v: model.apply(v, images, 0.5, mutable=["intermediates"]), variables
  )
  widths = [s.active.size for s in _in_order(collected["intermediates"])]
  assert widths == [16] * 5 + [32] * 4 + [64] * 4


def test_calibration_error_of_known_predictions():
  # Confidence 0.73 in both; one of two is right.
  logits = jnp.array([[1.0, 0.0], [1.0, 0.0]])
  error = calibration_error(calibration_sums(logits, jnp.array([0, 1])))
  assert error == pytest.approx(1 / (1 + np.exp(-1)) - 0.5, rel=1e-5)


@pytest.mark.slow
def test_files(tmp_path):
  *_, rows = swept([1.0, 0.1])
  folder = epath.Path(tmp_path)
  content = {"rows": rows, "sites": ["a"], "checkpoint": "best", "epoch": 2}
  write_sweep(folder, content)
  assert read_sweep(folder)["rows"] == rows
  with open(folder / "sweep.csv") as file:
    lines = list(csv.DictReader(file))
  assert set(lines[0]) == {*TOTALS, "site", *SITES}
  assert [float(line["keep_ratio"]) for line in lines] == [1.0, 0.1]
  assert {line["site"] for line in lines} == {"a"}
  picture = pictures.png(sweep_figures.budget_sweep({"a": rows, "b": rows}))
  with Image.open(io.BytesIO(picture)) as image:
    assert image.width >= 1000


def test_a_loss_that_is_not_finite_is_null(tmp_path):
  *_, rows = swept([1.0, 0.1])
  rows[1] |= {"loss": math.inf, "calibration_error": math.nan}
  folder = epath.Path(tmp_path)
  content = {"rows": rows, "sites": ["a"], "checkpoint": "best", "epoch": 2}
  write_sweep(folder, content)
  read = read_sweep(folder)["rows"]
  assert read[0] == rows[0]
  assert math.isnan(read[1]["loss"])
  assert read[1]["accuracy"] == rows[1]["accuracy"]
  assert "NaN" not in (folder / "sweep.json").read_text()
  assert pictures.png(sweep_figures.budget_sweep({"a": read}))


@pytest.mark.parametrize("score", ["value", "magnitude"])
def test_the_threshold_is_of_the_score(score):
  x = jnp.linspace(-1.0, 2.0, 10)[None]
  dense = get_activation("gelu")(x)
  sparse = sparse_activation(x, 0.8, activation="gelu", score=score)
  kept = np.asarray(sparse)[np.asarray(sparse) != 0]
  lowest = kept.min() if score == "value" else np.abs(kept).min()
  assert lowest < 0 or score == "magnitude"
  sums = site_sums(dense, sparse, score=score)
  np.testing.assert_allclose(sums.threshold, lowest, rtol=1e-6)


@pytest.mark.parametrize(
  "content", ["", "[]", "{}", '{"rows": [], "checkpoint": 1, "epoch": 1}', "{"]
)
def test_a_sweep_half_written_is_refused(tmp_path, content):
  (tmp_path / "sweep.json").write_text(content)
  with pytest.raises(InputError, match="could not be read"):
    read_sweep(epath.Path(tmp_path))
