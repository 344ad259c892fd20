"""``--mode=measure`` on a real run, and the study that draws on it."""

import copy
import csv
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from sparse_regimes import analysis
from sparse_regimes.commands.measure import measure_run
from sparse_regimes.data.dataset import normalize
from sparse_regimes.errors import InputError
from sparse_regimes.main import main
from sparse_regimes.masks.activations import flat_part, get_activation, shifted
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.past_run import kept_epochs, restore_number
from sparse_regimes.runs.tables import MEASURES_FILE, read_measures
from sparse_regimes.runs.task import make_task
from sparse_regimes.studies import flat_minima
from sparse_regimes.studies import flat_minima_tables as studies
from sparse_regimes.studies.cli import exit_code
from sparse_regimes.studies.statistics import estimate

pytestmark = pytest.mark.run

SMALL = (
  "data.name=cifar10_mini",
  "train.epochs=3",
  "train.batch_size=256",
  "eval.batch_size=256",
  "model.name=residual_mlp",
  "model.width=16",
  "model.depth=2",
  "checkpoint.keep=9",
  "train.num_devices=1",
  "eval.num_train=256",
)


def measure(workdir, **arguments):
  arguments = {"num_images": 32, "hessian_samples": 2} | arguments
  return measure_run(epath.Path(workdir), log=lambda _: None, **arguments)


@pytest.fixture(scope="module")
def run(once):
  """A run of three epochs and its measures."""
  return once("mlp", train_and_measure)


def train_and_measure(workdir):
  overrides = [f"--config.{override}" for override in SMALL]
  arguments = ["--config=mlp_vanilla", f"--workdir={workdir}", *overrides]
  with jax.numpy_dtype_promotion("standard"):
    assert main(arguments) == 0
    code = main(
      [
        *("--mode=measure", f"--workdir={workdir}"),
        *("--num_images=32", "--hessian_samples=2"),
      ]
    )
  assert code == 0


@pytest.fixture
def copied(run, tmp_path):
  return epath.Path(shutil.copytree(run, tmp_path / "run"))


def test_every_epoch_is_measured(run):
  content = read_measures(epath.Path(run))
  # The first is the network before its first step.
  assert [row["epoch"] for row in content["epochs"]] == [0, 1, 2, 3]
  assert content["epochs"][0]["step"] == 0
  assert content["epochs"][0]["test_dense_accuracy"] is None
  records = [
    json.loads(line)
    for line in (run / "metrics.jsonl").read_text().split("\n")
    if line
  ]
  for row, record in zip(content["epochs"][1:], records, strict=True):
    assert row["step"] == record["step"]
    assert row["test_dense_accuracy"] == record["test_dense_accuracy"]
    assert list(row["sites"]) == ["block0/site", "block1/site"]
    assert set(row["spectra"]) == {
      "stem/kernel",
      "block0/linear1/kernel",
      "block1/linear1/kernel",
      "head/kernel",
    }
  traces = [row["hessian_trace"] for row in content["epochs"]]
  assert traces[:3] == [None, None, None]
  assert traces[3] is not None
  page = (run / "report.html").read_text()
  # Active fraction, derivative, flatness and weight of sparsity.
  section = page.partition(">Sparsity, flatness, spectra</h2>")[2]
  section = section.partition("<h2")[0]
  assert section.count("data:image/png") == 4
  assert "block1/linear1/kernel" in page


def test_they_are_those_of_the_checkpoint(run):
  """The last epoch again, from its parameters and the pure functions."""
  workdir = epath.Path(run)
  config = configs.load(str(run / "config.json"))
  data = make_task(config, print).data
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=1)
  with jax.numpy_dtype_promotion("standard"):
    template = jax.eval_shape(
      lambda: factory.make_state(config, parts, data.test_images.shape[1:])
    )
  kept = kept_epochs(workdir)
  assert sorted(kept) == [1, 2, 3]
  state, journal = restore_number(workdir, kept[3], template)
  assert len(journal.records) == 3
  layers = analysis.probe(
    parts.model.apply,
    state.variables,
    normalize(data.train_images[:32]),
    data.train_labels[:32],
  )
  row = read_measures(workdir)["epochs"][-1]
  for name, layer in layers.items():
    got = row["sites"][name]
    hidden, pre = np.asarray(layer.hidden), np.asarray(layer.pre)
    assert got["active"] == pytest.approx(np.mean(np.abs(hidden) > 1e-6))
    assert got["derivative"] == pytest.approx(np.mean(pre > 0))
    eta = np.asarray(layer.pre_gradient, np.float64)
    norms = np.square(eta).sum(-1)
    assert got["eta_square"] == pytest.approx(norms.mean(), rel=1e-4)
    x = np.square(np.asarray(layer.input, np.float64)).sum(-1)
    flatness = np.mean(norms * x)
    assert got["flatness"] == pytest.approx(flatness, rel=1e-4)
    # What no second linear reads has no output.
    assert got["output_gradient"] is None
    assert got["flatness_behind"] is None
  kernel = np.asarray(state.params["block0"]["linear1"]["kernel"], np.float64)
  eigenvalues = np.linalg.eigvalsh(kernel.T @ kernel)
  near_zero = row["spectra"]["block0/linear1/kernel"]["near_zero"]
  assert near_zero == pytest.approx(np.mean(eigenvalues <= 0.1))
  logits, _ = parts.model.apply(
    state.variables, normalize(data.test_images[:32]), 1.0
  )
  right = np.mean(np.argmax(logits, -1) == data.test_labels[:32])
  assert row["accuracy"] == pytest.approx(right)


def test_epoch_0_is_the_network_of_the_seed(run):
  config = configs.load(str(run / "config.json"))
  data = make_task(config, print).data
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=1)
  with jax.numpy_dtype_promotion("standard"):
    state = factory.make_state(config, parts, data.test_images.shape[1:])
  row = read_measures(epath.Path(run))["epochs"][0]
  kernel = np.asarray(state.params["head"]["kernel"], np.float64)
  eigenvalues = np.linalg.eigvalsh(kernel.T @ kernel)
  near_zero = row["spectra"]["head/kernel"]["near_zero"]
  assert near_zero == pytest.approx(np.mean(eigenvalues <= 0.1), abs=1e-6)
  logits, _ = parts.model.apply(
    state.variables, normalize(data.test_images[:32]), 1.0
  )
  right = np.mean(np.argmax(logits, -1) == data.test_labels[:32])
  assert row["accuracy"] == pytest.approx(right)


def test_what_is_measured_is_not_measured_again(copied):
  path = copied / MEASURES_FILE
  content = json.loads(path.read_text())
  content["epochs"][0]["sharpness"] = 123.0
  del content["epochs"][1]
  path.write_text(json.dumps(content))
  again = measure(copied)
  assert [row["epoch"] for row in again["epochs"]] == [0, 1, 2, 3]
  assert again["epochs"][0]["sharpness"] == 123.0
  # Another number of samples is for the last epoch alone.
  once = measure(copied, hessian_samples=1)
  assert once["epochs"][0]["sharpness"] == 123.0
  trace = once["epochs"][-1]["hessian_trace"]
  assert trace != again["epochs"][-1]["hessian_trace"]
  assert once["epochs"][-1]["hessian_error"] is None
  # Of other images it is another measure, if all can be measured again.
  number = kept_epochs(copied)[1]
  folder = copied / "checkpoints" / str(number)
  folder.rename(copied / "away")
  with pytest.raises(InputError, match="--num_images must be 32, as in"):
    measure(copied, num_images=16)
  (copied / "away").rename(folder)
  other = measure(copied, num_images=16)
  assert other["epochs"][0]["sharpness"] != 123.0
  assert other == read_measures(copied)


def test_a_damaged_checkpoint_is_skipped(copied):
  number = kept_epochs(copied)[2]
  for path in (copied / "checkpoints" / str(number) / "state").glob("d/*"):
    path.write_bytes(b"damaged")
  (copied / MEASURES_FILE).unlink()
  said = []
  content = measure_run(
    copied, num_images=16, hessian_samples=0, log=said.append
  )
  assert [row["epoch"] for row in content["epochs"]] == [0, 1, 3]
  assert any("is damaged: skipped" in line for line in said)
  assert content["epochs"][-1]["hessian_trace"] is None


@pytest.mark.parametrize("field", ["model.norm=restricted", "model.width=32"])
@pytest.mark.parametrize("mode", ["measure", "eval"])
def test_overrides_that_make_another_network(copied, capsys, field, mode):
  before = (copied / MEASURES_FILE).read_text()
  code = main(
    [f"--mode={mode}", f"--workdir={copied}", f"--config.{field}"]
    + ["--num_images=16"] * (mode == "measure")
  )
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  name, _, value = field.partition("=")
  assert "--config overrides must leave the state of" in line
  assert f"{name} (was " in line
  assert f"now {value}" in line.replace("'", "")
  assert ": params/" in line
  assert (copied / MEASURES_FILE).read_text() == before


def test_measures_stay_until_a_checkpoint_could_be_read(copied):
  for number in kept_epochs(copied).values():
    for path in (copied / "checkpoints" / str(number) / "state").glob("d/*"):
      path.write_bytes(b"damaged")
  before = (copied / MEASURES_FILE).read_text()
  with pytest.raises(InputError, match="a checkpoint that can be read"):
    measure(copied, num_images=16)
  assert (copied / MEASURES_FILE).read_text() == before


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"num_images": 0}, "--num_images must be at least 1, got 0"),
    ({"hessian_samples": -1}, "--hessian_samples must be at least 0, got -1"),
  ],
)
def test_numbers_out_of_range(run, arguments, message):
  with pytest.raises(InputError, match=message):
    measure(run, **arguments)


def test_folders_that_hold_no_run(tmp_path, capsys):
  assert main(["--mode=measure", f"--workdir={tmp_path}"]) == 2
  assert "--workdir must hold a run" in capsys.readouterr().err
  assert main(["--mode=measure"]) == 2


@pytest.mark.parametrize(
  "damage",
  [
    lambda c: c["epochs"].clear(),
    lambda c: c["epochs"].reverse(),
    lambda c: c["epochs"][0].pop("sites"),
    lambda c: c["epochs"][0].update(sharpness="high"),
    lambda c: c["epochs"][1]["spectra"].update(a=3),
    lambda c: c["epochs"][1]["spectra"].popitem(),
    lambda c: c["epochs"][1].update(sharpness=[1.0]),
    lambda c: c.pop("num_images"),
    lambda c: c.pop("epochs"),
    lambda c: c["epochs"][2]["sites"]["block0/site"].update(active=[[]] * 5000),
  ],
)
def test_measures_that_cannot_be_read(run, tmp_path, damage):
  content = copy.deepcopy(read_measures(epath.Path(run)))
  damage(content)
  (tmp_path / MEASURES_FILE).write_text(json.dumps(content))
  with pytest.raises(InputError, match="--mode=measure makes it anew"):
    read_measures(epath.Path(tmp_path))


@pytest.mark.parametrize("name", ["relu", "jsrelu", "jsrelu_linear", "s_relu"])
@pytest.mark.parametrize("shift", [0.0, 1.6, -1.6])
def test_the_flat_part_is_where_the_slope_is_zero(name, shift):
  low, high = flat_part(name, shift)
  function = shifted(get_activation(name), shift, 0.5)
  x = jnp.linspace(-6.0, 6.0, 241) + 0.011
  slope = jax.vmap(jax.grad(lambda v: function(v)))(x)
  np.testing.assert_array_equal(slope == 0, (x >= low) & (x <= high))


def scaled(rows, before, after):
  """Measures with other active fractions in the first and the last epoch."""
  rows = copy.deepcopy(rows)
  for row, factor in ((rows[0], before), (rows[-1], after)):
    for site in row["sites"].values():
      site["active"] *= factor
  return rows


def test_a_study_compares_by_seed(run, tmp_path):
  rows = read_measures(epath.Path(run))["epochs"]
  first, second, *others = flat_minima.STUDIES["modules"].arms
  # Of seed 2 the second arm has nothing, and its seeds are in another order.
  factors = {
    first: {0: (1.0, 1.0), 1: (1.1, 1.2), 2: (1.0, 3.0)},
    second: {1: (1.1, 0.5), 0: (1.0, 0.9)},
  }
  measured = {label: {} for label in others} | {
    label: {seed: scaled(rows, *pair) for seed, pair in by_seed.items()}
    for label, by_seed in factors.items()
  }
  text = flat_minima.write_all(tmp_path, "modules", measured, 6, "a command")
  assert text.startswith("PARTIAL: 5 of 6 runs finished")
  start, end = (
    np.mean([site["active"] for site in rows[i]["sites"].values()])
    for i in (0, -1)
  )
  changed = estimate([0.9 * end - start, 0.5 * end - 1.1 * start])
  between = estimate([(0.9 - 1.0) * end, (0.5 - 1.2) * end])
  for name, got in (("since the start", changed), (f"minus {first}", between)):
    lines = [s for s in text.splitlines() if s.startswith(f"| {name} |")]
    wanted = f"| {got.mean:+.3g} [{got.low:.3g}, {got.high:.3g}], p 0.5 |"
    assert wanted in lines[-1]
  with open(tmp_path / "modules.csv") as file:
    lines = list(csv.DictReader(file))
  assert len(lines) == 5 * len(rows)
  assert (tmp_path / "modules.png").stat().st_size > 10_000


def test_logarithms_take_the_identity_of_relu_apart(run):
  """Active = flatness / (T n weight) at every site, so of the means of logs."""
  row = copy.deepcopy(read_measures(epath.Path(run))["epochs"][-1])
  active, flatness, weight = (
    studies.MEASURES[f"log {name}"](row)
    for name in ("active fraction", "augmented flatness", "weight of sparsity")
  )
  # One token and a width of 16.
  assert active == pytest.approx(flatness - weight - np.log10(16), abs=1e-5)
  # A site that is dead has no logarithm, and is not left out in silence.
  next(iter(row["sites"].values()))["active"] = 0.0
  assert np.isnan(studies.MEASURES["log active fraction"](row))


def test_every_study_can_be_told_of_this_run(run, tmp_path):
  rows = read_measures(epath.Path(run))["epochs"]
  for name, study in flat_minima.STUDIES.items():
    measured = {label: {0: rows} for label in study.arms}
    flat_minima.write_all(tmp_path, name, measured, len(measured), "c")
    assert (tmp_path / f"{name}.png").exists()
    # Every arm is a config, small and full.
    for spec in study.arms.values():
      config, *overrides = spec.split("+")
      overrides += ["train.start_from=a"] * (name == "finetune")
      for size in (config, flat_minima.FULL[config]):
        configs.load(size, overrides)


def test_a_study_is_trained_measured_and_thinned(tmp_path, capsys, monkeypatch):
  # Two runs that differ, of one program.
  arms = {"a": "cpu_mlp", "b": "cpu_mlp+controller.keep_ratio=0.5"}
  study = flat_minima.STUDIES["mlp"]._replace(arms=arms)
  monkeypatch.setitem(flat_minima.STUDIES, "small", study)
  monkeypatch.setattr(flat_minima, "HESSIAN_SAMPLES", 1)
  arguments = [
    *("--study=small", "--full", "--seeds=1", f"--out={tmp_path}"),
    *("--num_images=16", "--config.data.name=cifar10_mini"),
    *("--config.model.depth=1", "--config.model.width=16"),
    *("--config.train.epochs=3", "--config.train.batch_size=512"),
    *("--config.train.num_devices=1", "--config.eval.batch_size=256"),
    "--config.eval.num_train=256",
    "--config.optimizer.learning_rate=0.01",
  ]
  assert exit_code(lambda: flat_minima.flat_minima(arguments)) == 0
  printed = capsys.readouterr().out
  assert "2 of 2 runs finished" in printed
  with open(tmp_path / "small.csv") as file:
    lines = list(csv.DictReader(file))
  assert [line["epoch"] for line in lines] == [*"0123"] * 2
  for folder in tmp_path.glob("*/seed0"):
    summary = json.loads((folder / "summary.json").read_text())
    assert set(kept_epochs(epath.Path(folder))) == {3, summary["best_epoch"]}
  # What is there is enough.
  assert exit_code(lambda: flat_minima.flat_minima(arguments)) == 0
  assert "start       " not in capsys.readouterr().out
  # Of a run that is measured in part there is no last epoch.
  path = next(tmp_path.glob("*/seed0")) / MEASURES_FILE
  content = json.loads(path.read_text())
  del content["epochs"][-1]
  path.write_text(json.dumps(content))
  code = exit_code(
    lambda: flat_minima.flat_minima([*arguments, "--minutes=0.000001"])
  )
  assert code == 4
  assert "PARTIAL: 1 of 2 runs finished" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "required: --study"),
    (["--study=all"], "--study must be one of modules, mlp, longer, shifted"),
    (["--study=modules", "--seeds=x"], "--seeds must be a number"),
    (["--study=modules", "--jobs=0"], "--jobs must be from 1"),
    (["--study=finetune"], "train.start_from must be the folder of the run"),
    (["--study=modules", "--num_images=0"], "--num_images must be at least"),
    (["--study=modules", "--config.model.nome=3"], "model has no field"),
  ],
)
def test_bad_input_is_a_line(tmp_path, capsys, arguments, message):
  arguments = [*arguments, f"--out={tmp_path / 'out'}"]
  assert exit_code(lambda: flat_minima.flat_minima(arguments)) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line
  assert not (tmp_path / "out").exists()
