"""The command line as a user meets it."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from sparse_regimes.main import main

pytestmark = pytest.mark.run

ROOT = Path(__file__).parent.parent
SMOKE = f"--config={ROOT / 'tests' / 'tiny_run.py'}"
NAMES = {
  *("epoch", "step", "learning_rate", "images_per_second"),
  *("keep_ratio", "ema_accuracy", "best_ema_accuracy", "cooldown"),
  *("train_loss", "train_accuracy", "train_nonzero"),
  *("test_sparse_loss", "test_sparse_accuracy", "test_sparse_nonzero"),
  *("test_dense_loss", "test_dense_accuracy", "test_dense_nonzero"),
}


@pytest.fixture(scope="module")
def run(once):
  """One smoke run: its folder, its records, what it printed."""
  workdir = once("smoke", train_smoke)
  printed = workdir.with_name("smoke.txt").read_text()
  return workdir, records_of(workdir), printed


def train_smoke(workdir):
  with contextlib.redirect_stdout(io.StringIO()) as out:
    code = main(
      [
        *(SMOKE, f"--workdir={workdir}", "--config.train.batch_size=320"),
        *("--config.log.page=True", "--config.log.backends=tensorboard"),
      ]
    )
  assert code == 0
  workdir.with_name("smoke.txt").write_text(out.getvalue())


def records_of(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_a_run_writes_what_is_promised(run):
  workdir, records, _ = run
  for name in ("config.json", "curves.png", "checkpoints", "summary.json"):
    assert (workdir / name).exists()
  assert list(workdir.glob("events.out.tfevents.*"))
  assert not [p.name for p in workdir.iterdir() if p.name.endswith(".tmp")]
  assert json.loads((workdir / "config.json").read_text())["train"] == {
    "accumulate": 1,
    "batch_size": 320,
    "ema_decay": 0.0,
    "epochs": 3,
    "num_devices": 0,
    "on_nonfinite": "stop",
    "parameters": "replicated",
    "start_from": "",
    "steps_per_call": 0,
  }
  assert [r["epoch"] for r in records] == [1, 2, 3]
  assert [r["step"] for r in records] == [4, 8, 12]


def test_records_have_their_names_and_ranges(run):
  _, records, _ = run
  for record in records:
    assert set(record) == NAMES
    for name, value in record.items():
      if name.endswith(("accuracy", "nonzero", "ratio")):
        assert 0 <= value <= 1, name
      assert np.isfinite(value), name
    assert record["test_dense_accuracy"] * 256 == int(
      record["test_dense_accuracy"] * 256
    )
  # Decisions every three batches: one, one and two in an epoch of four.
  np.testing.assert_allclose(
    [r["keep_ratio"] for r in records], [0.8, 0.64, 0.4096], rtol=1e-6
  )
  rate = 0.1 * 320 / 128
  np.testing.assert_allclose(
    [r["learning_rate"] for r in records],
    [rate, 0.75 * rate, 0.25 * rate],
    1e-5,
  )


def test_a_run_says_what_it_does(run):
  workdir, _, out = run
  for line in (
    "devices     8 x cpu",
    "data        cifar10_mini: 1,280 train and 256 test images",
    "parameters  49,978 in residual_mlp",
    "steps       4 an epoch of 320 images each, 12 in 3 epochs",
    "estimate    about",
    "epoch   3/3",
    "4 compressions, 0 resets",
    f"run folder    {workdir}",
  ):
    assert line in out


@pytest.mark.parametrize("which", ["best", "last"])
def test_eval_mode_reproduces_the_record(run, capsys, which):
  workdir, records, _ = run
  arguments = [f"--workdir={workdir}", "--keep_ratios=1.0,0.4096,0.1"]
  assert main(["--mode=eval", f"--checkpoint={which}", *arguments]) == 0
  header, names, *rows, written, page = capsys.readouterr().out.splitlines()[
    -7:
  ]
  assert names.split()[:5] == ["keep", "ratio", "accuracy", "loss", "nonzero"]
  assert written.startswith("written     sweep.json, sweep.csv, sweep.png in")
  assert page == f"written     {workdir}/report.html"
  content = json.loads((workdir / "sweep.json").read_text())
  assert [row["keep_ratio"] for row in content["rows"]] == [1.0, 0.4096, 0.1]
  assert content["chance"] == {"accuracy": 0.1}
  assert content["num_scored"] == 256
  dense, sparse, sparser = ([float(x) for x in row.split()[:5]] for row in rows)
  key = {
    "best": lambda r: r["test_dense_accuracy"],
    "last": lambda r: r["epoch"],
  }
  record = max(records, key=key[which])
  assert f"{which} checkpoint" in header
  assert dense[1] == pytest.approx(record["test_dense_accuracy"], abs=1e-4)
  if which == "last":
    assert sparse[1] == pytest.approx(record["test_sparse_accuracy"], abs=1e-4)
    assert sparse[3] == pytest.approx(record["test_sparse_nonzero"], abs=1e-4)
  assert sparser[3] <= 0.1


def test_the_same_seed_gives_the_same_run(run, tmp_path):
  _, records, _ = run
  workdir = tmp_path / "again"
  arguments = [SMOKE, f"--workdir={workdir}", "--config.train.batch_size=320"]
  assert main(arguments) == 0
  for again, record in zip(records_of(workdir), records, strict=True):
    for name in NAMES - {"images_per_second"}:
      assert again[name] == record[name], name


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "--config must be given, such as"),
    (["--config=nope.py"], "nope.py"),
    ([SMOKE, "--config.model.norm=group"], "model.norm must be one of"),
    ([SMOKE, "--config.train.batch_size=1281"], "at most the 1280 training"),
    ([SMOKE, "--config.train.nope=1"], "train has no field 'nope'"),
    ([SMOKE, "--nope=1"], "--nope=1 is not a known argument"),
    ([SMOKE, "--workdir=/dev/null/run"], "--workdir must be a folder"),
    (["--mode=eval"], "--workdir must be given: the folder of the run"),
    (["--mode=fly"], "argument --mode: invalid choice: 'fly'"),
    ([SMOKE, "--workdir"], "argument --workdir: expected one argument"),
    ([SMOKE, "--workdir=/proc/run"], "--workdir must be writable"),
    ([SMOKE, "--workdir=" + "x" * 300], "--workdir must be writable"),
    ([SMOKE, "--config.controller.decide_every=10000000000"], "decide_every"),
    ([SMOKE, "--config.optimizer.learning_rate=1" + "0" * 400], "learning_ra"),
    (["--mode=eval", "--workdir=nowhere"], "--workdir must hold a run"),
  ],
)
def test_bad_input_is_one_line_and_exit_code_2(
  arguments, message, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  assert main(arguments) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ")
  assert message in error
  assert error.count("\n") == 1
  assert not list(tmp_path.iterdir()), "something was written"


def test_a_finished_run_is_left_as_it_is(run, capsys):
  workdir, records, _ = run
  arguments = [SMOKE, f"--workdir={workdir}", "--config.train.batch_size=320"]
  assert main(arguments) == 0
  out = capsys.readouterr().out
  assert "resumed     after step 12, with 3 of 3 epochs finished" in out
  assert "compiled" not in out
  assert records_of(workdir) == records


def test_a_run_of_another_config_is_refused_and_left_alone(run, capsys):
  workdir, _, _ = run
  before = sorted(p.name for p in workdir.iterdir())
  assert main([SMOKE, f"--workdir={workdir}", "--config.seed=1"]) == 2
  error = capsys.readouterr().err
  assert "seed (was 0, now 1), train.batch_size (was 320, now 128)" in error
  assert "--force_new" in error
  assert sorted(p.name for p in workdir.iterdir()) == before


def test_bad_eval_arguments(run, capsys):
  workdir, _, _ = run
  for argument in ("--keep_ratios=2", "--checkpoint=worst"):
    assert main(["--mode=eval", f"--workdir={workdir}", argument]) == 2
    assert argument.split("=")[0] in capsys.readouterr().err


def test_runs_on_other_data_are_not_compared(run, tmp_path, capsys):
  workdir, _, _ = run
  other = tmp_path / "other"
  (other / "checkpoints").mkdir(parents=True)
  config = json.loads((workdir / "config.json").read_text())
  config["data"]["num_test"] = 128
  (other / "config.json").write_text(json.dumps(config))
  arguments = ["--mode=eval", f"--workdir={workdir}", f"--against={other}"]
  assert main(arguments) == 2
  error = capsys.readouterr().err
  assert "got data.num_test 0 in" in error
  assert f"128 in {other}" in error


def test_print_config_shows_every_field_and_trains_nothing(capsys, tmp_path):
  arguments = [SMOKE, "--print_config", "--config.seed=5"]
  assert main([*arguments, f"--workdir={tmp_path / 'run'}"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert {"seed = 5", "model.name = 'residual_mlp'", "train.epochs = 3"} <= {
    *lines
  }
  assert not (tmp_path / "run").exists()
