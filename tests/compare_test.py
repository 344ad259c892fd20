"""Arms over seeds: the queue, the statistics, the table."""

import csv
import doctest
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath
from running import ROOT, TINY_PLAY, TINY_RUN, TINY_TEXT

from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.workdir import open_workdir
from sparse_regimes.studies import arms as arms_and_seeds
from sparse_regimes.studies import budgets, compare, measures
from sparse_regimes.studies import queue as run_queue
from sparse_regimes.studies import statistics as paired
from sparse_regimes.studies.cli import exit_code

COMMAND = (sys.executable, "-u", "-m", "sparse_regimes", "compare")
SMALL = (
  "--config.train.epochs=2",
  "--config.train.batch_size=640",
  "--config.checkpoint.every_steps=1",
)


@pytest.mark.parametrize("module", [paired, arms_and_seeds, budgets, measures])
def test_examples(module):
  failures, tried = doctest.testmod(module)
  assert failures == 0
  assert tried > 0


def test_statistics_of_known_numbers():
  got = paired.estimate([0.50, 0.52, 0.54, 0.51, 0.53])
  assert got.mean == pytest.approx(0.52)
  assert got.sd == pytest.approx(math.sqrt(0.001 / 4))
  # t of 4 degrees of freedom: 2.776.
  assert got.high - got.mean == pytest.approx(2.776 * got.sd / 5**0.5, rel=1e-3)
  assert math.isnan(paired.estimate([0.5]).low)
  assert math.isnan(paired.sign_flip_p([0.5]))


@pytest.mark.parametrize("differences", [[3, 1, -2], [0.1, 0.2, 0.4, -0.3]])
def test_sign_flips_are_counted_exactly(differences):
  n = len(differences)
  signs = np.array(np.meshgrid(*[[1, -1]] * n)).reshape(n, -1)
  means = np.abs(signs.T @ np.array(differences))
  expected = np.mean(means >= abs(sum(differences)) - 1e-9)
  assert paired.sign_flip_p(differences) == pytest.approx(expected)


def test_sign_flips_do_not_depend_on_the_unit():
  for unit in (1e-12, 1.0, 1e12):
    values = unit * np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert paired.sign_flip_p(values) == 0.0625
  # 0.1 + 0.2 - 0.3 is not 0 in binary: as far from 0 as its negative.
  assert paired.sign_flip_p([0.1, 0.2, -0.3]) == 1


@pytest.mark.parametrize(
  "text", ["", "0", "-1", "1.5", "a", "1,1", "1,,2", "1;2", "999999999"]
)
def test_seeds_that_do_not_parse(text):
  with pytest.raises(InputError, match="--seeds must be"):
    arms_and_seeds.parse_seeds(text)


def summary(accuracy, seed, **values):
  return {
    "epochs": 3,
    "seed": seed,
    "diverged": False,
    "final_test_dense_accuracy": accuracy,
    "final_test_sparse_accuracy": accuracy - 0.1,
    "best_test_dense_accuracy": accuracy,
    "final_train_dense_accuracy": accuracy + 0.2,
    "collapses": [],
    "resets": 1,
    "lowest_keep_ratio": 0.1,
    "skippable_share_dense": 0.4,
    "skippable_share_sparse": 0.6,
    "images_per_second": 100.0,
    "seconds": 60.0,
    "device": "1 x cpu",
    "host": "2 cores",
    "versions": {"jax": "1"},
  } | values


def test_the_table_pairs_by_seed(tmp_path):
  (tmp_path / "other.py").write_text((ROOT / "configs/smoke.py").read_text())
  arms = ["smoke", str(tmp_path / "other.py")]
  runs = arms_and_seeds.make_runs(arms, [0, 1, 2], tmp_path / "out", [])
  accuracy = {"smoke": [0.5, 0.6, 0.7], "other": [0.55, 0.66]}
  for run in runs:
    if run.seed < len(accuracy[run.arm]):
      run.workdir.mkdir(parents=True)
      content = summary(accuracy[run.arm][run.seed], run.seed)
      (run.workdir / "summary.json").write_text(json.dumps(content))
  text = compare.write_all(tmp_path / "out", runs, "smoke", "a command")
  assert text.startswith("PARTIAL: 5 of 6 runs finished")
  smoke, other = compare.table(compare.collect(runs), "smoke")
  assert smoke["dense accuracy"].startswith("0.6000 ± 0.1000 [")
  assert "minus smoke" not in smoke
  assert other["seeds"] == "2"
  assert other["minus smoke"].startswith("+0.0550 ± 0.0071")
  assert other["p"] == "0.5000"
  assert other["gap"] == "0.2000 ± 0.0000"
  with open(tmp_path / "out" / "table.csv") as file:
    rows = list(csv.DictReader(file))
  assert [row["n"] for row in rows if row["arm"] == "other"] == ["2"] * 13
  difference = rows[-1]
  assert difference["measure"] == "dense accuracy minus smoke"
  assert float(difference["mean"]) == pytest.approx(0.055)
  assert float(difference["p"]) == 0.5
  page = (tmp_path / "out" / "compare.html").read_text()
  # Nothing is fetched, and there is no program.
  assert not any(word in page for word in ("http", "<script", "<img"))
  assert (tmp_path / "out" / "runs.csv").read_text().count("\n") == 6


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--configs=nothing", "--seeds=2"], "--config must be a config file or"),
    (["--configs=smoke", "--seeds=x"], "--seeds must be a number of seeds"),
    (["--configs=smoke,smoke"], "--configs must have different names"),
    (["--configs=smoke,quickstart"], "must agree in train.epochs"),
    (
      ["--configs=smoke,cpu_dense", "--config.train.epochs=3"],
      "must agree in data.name",
    ),
    (
      ["--configs=smoke", "--baseline=other"],
      "--baseline must be one of smoke",
    ),
    (["--configs=smoke", "--jobs=0"], "--jobs must be from 1"),
    (["--configs=smoke", "--minutes=nan"], "--minutes must be at least 0"),
    (["--configs=smoke", "--config.seed=3"], "seeds are given by --seeds"),
    (["--configs=smoke", "--sedes=3"], "--sedes=3 is not a known argument"),
    ([], "required: --configs"),
  ],
)
def test_bad_input_is_a_line(tmp_path, capsys, arguments, message):
  out = tmp_path / "out"
  code = exit_code(lambda: compare.compare([*arguments, f"--out={out}"]))
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line
  assert not out.exists()


@pytest.mark.parametrize("content", ["", '{"epochs": 3', "[]", "{}"])
def test_a_summary_half_written_is_named(tmp_path, capsys, content):
  folder = tmp_path / "smoke" / "seed0"
  folder.mkdir(parents=True)
  config = configs.load("smoke", ["seed=0"]).to_dict()
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "summary.json").write_text(content)
  arguments = ["--configs=smoke", "--seeds=1", f"--out={tmp_path}"]
  assert exit_code(lambda: compare.compare(arguments)) == 2
  error = capsys.readouterr().err
  assert "summary.json must be a run's summary" in error
  assert "delete it" in error


def test_a_folder_of_another_run_is_refused(tmp_path, capsys):
  folder = tmp_path / "smoke" / "seed0"
  folder.mkdir(parents=True)
  config = configs.load("smoke", ["model.norm=bn"]).to_dict()
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "checkpoints" / "8").mkdir(parents=True)
  arguments = ["--configs=smoke", "--seeds=1", f"--out={tmp_path}"]
  assert exit_code(lambda: compare.compare(arguments)) == 2
  assert "model.norm (was 'bn', now 'rms')" in capsys.readouterr().err


def test_a_summary_of_another_config_is_refused(tmp_path, capsys):
  # Another queue may have trained it since this one began.
  (run,) = arms_and_seeds.make_runs(
    ["smoke"], [0], tmp_path, ["train.epochs=3"]
  )
  run.workdir.mkdir(parents=True)
  (run.workdir / "summary.json").write_text(json.dumps(summary(0.5, 0)))
  config = run.load().to_dict()
  (run.workdir / "config.json").write_text(json.dumps(config))
  assert run.summary()["final_test_dense_accuracy"] == 0.5
  config["optimizer"]["learning_rate"] = 0.07
  (run.workdir / "config.json").write_text(json.dumps(config))
  assert exit_code(lambda: bool(run.summary())) == 2
  assert "learning_rate (was 0.07, now" in capsys.readouterr().err


def test_one_in_use_must_be_of_this_config_too(tmp_path, capsys):
  config = configs.load("smoke", ["optimizer.learning_rate=0.07", "seed=0"])
  arguments = ["--configs=smoke", "--seeds=1", f"--out={tmp_path}"]
  with open_workdir(epath.Path(tmp_path / "smoke" / "seed0"), config):
    assert exit_code(lambda: compare.compare(arguments)) == 2
  assert "learning_rate (was 0.07, now" in capsys.readouterr().err


def test_one_that_diverged_may_go_on(tmp_path):
  own = ["train.epochs=3"]
  (run,) = arms_and_seeds.make_runs(["smoke"], [0], tmp_path, own)
  run.workdir.mkdir(parents=True)
  content = summary(0.1, 0, epochs=1, diverged=True, images_per_second=None)
  (run.workdir / "summary.json").write_text(json.dumps(content))
  assert math.isnan(run.summary()["images_per_second"])
  own.append("train.on_nonfinite=skip")
  (run,) = arms_and_seeds.make_runs(["smoke"], [0], tmp_path, own)
  assert run.summary() is None


def test_a_run_that_fails_is_named_and_the_others_go_on(
  tmp_path, monkeypatch, capsys
):
  """Runs whose processes end at once, the second without a result."""

  def start(run, claim, slot, jobs):
    del slot, jobs
    run.workdir.mkdir(parents=True)
    run.workdir.with_suffix(".log").write_text("error: the disk is full\n")
    content = summary(0.5, run.seed, epochs=run.load().train.epochs)
    if run.seed == 2:
      accuracies = [n for n in content if "accuracy" in n or "skipp" in n]
      content |= dict.fromkeys(accuracies)
      content |= {"epochs": 0, "diverged": True}
    if run.seed != 1:
      (run.workdir / "summary.json").write_text(json.dumps(content))
    claim.close()
    return subprocess.Popen(["false"])

  monkeypatch.setattr(run_queue, "start", start)
  monkeypatch.setattr(run_queue.time, "sleep", lambda _: None)
  arguments = ["--configs=smoke", "--seeds=3", f"--out={tmp_path / 'out'}"]
  assert exit_code(lambda: compare.compare(arguments)) == 1
  error = capsys.readouterr().err
  assert "1 of 3 runs failed: smoke seed 1 ended with 1" in error
  assert "the disk is full" in error
  with open(tmp_path / "out" / "table.csv") as file:
    rows = {row["measure"]: row for row in csv.DictReader(file)}
  # One diverged before it was evaluated, and counts as diverged.
  assert rows["diverged"]["n"] == "2"
  assert float(rows["diverged"]["mean"]) == 0.5
  assert rows["dense accuracy"]["n"] == "1"
  assert float(rows["dense accuracy"]["mean"]) == 0.5


def test_of_a_loss_less_is_better(tmp_path):
  runs = arms_and_seeds.make_runs(["smoke"], [0], tmp_path, [])
  (run,) = runs
  run.workdir.mkdir(parents=True)
  content = summary(
    *(0.5, 0),
    **{"chosen_by": "loss", "final_test_dense_loss": 2.0},
    **{"final_test_sparse_loss": 2.5, "best_test_dense_loss": 1.5},
    **{"final_train_dense_loss": 0.5, "tokens_per_second": 1234.0},
  )
  (run.workdir / "summary.json").write_text(json.dumps(content))
  compare.write_all(tmp_path, runs, "smoke", "a command")
  (row,) = compare.table(compare.collect(runs), "smoke")
  assert row["dense loss"] == "2.0000"
  assert row["at the last budget"] == "2.5000"
  assert row["best dense"] == "1.5000"
  # As one whose accuracy is higher on what it was trained on.
  assert row["gap"] == "1.5000"
  assert row["tokens/s"] == "1234"
  assert "dense loss" in (tmp_path / "compare.html").read_text()


@pytest.mark.parametrize(
  ("config", "score", "pace"),
  [
    (TINY_TEXT, "loss", "tokens/s"),
    (TINY_PLAY, "return", "environment steps/s"),
  ],
)
@pytest.mark.run
def test_other_tasks_are_compared_by_their_own_score(
  tmp_path, config, score, pace
):
  arms = f"{config},{config}+controller.name=constant"
  done = subprocess.run(
    [
      *(*COMMAND, f"--configs={arms}", "--seeds=2", f"--out={tmp_path}"),
      *("--jobs=2", "--config.train.epochs=1"),
    ],
    cwd=ROOT,
    check=False,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  with open(tmp_path / "table.csv") as file:
    rows = list(csv.DictReader(file))
  found = {row["measure"]: row for row in rows if row["arm"] == config.stem}
  for name in (f"dense {score}", "best dense", "gap", pace):
    assert found[name]["n"] == "2", name
  (difference,) = (r for r in rows if r["measure"].endswith(config.stem))
  assert difference["measure"] == f"dense {score} minus {config.stem}"
  assert difference["n"] == "2"


@pytest.mark.run
def test_two_queues_share_the_work(tmp_path):
  command = [
    *(*COMMAND, f"--configs={TINY_RUN}"),
    *("--seeds=2", f"--out={tmp_path}", *SMALL),
  ]
  queues = [
    subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for _ in range(2)
  ]
  printed = [queue.communicate()[0] for queue in queues]
  assert [queue.returncode for queue in queues] == [0, 0]
  # Each run was begun once, and both queues tell of both.
  assert "".join(printed).count("start       ") == 2
  assert all("2 of 2 runs finished" in text for text in printed)


@pytest.mark.run
def test_killed_and_interrupted_it_goes_on(tmp_path):
  dense = "tiny_run+controller.name=constant"
  arms = f"{TINY_RUN},{TINY_RUN}+controller.name=constant"
  out = tmp_path / "out"

  def begin(*arguments):
    return subprocess.Popen(
      [
        *(*COMMAND, f"--configs={arms}"),
        *("--seeds=4,", f"--out={out}", *SMALL, *arguments),
      ],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=ROOT,
    )

  def wait_for(path):
    until = time.monotonic() + 200
    while not path.exists():
      assert time.monotonic() < until, path
      time.sleep(0.05)

  # Killed while the first run trains, which goes on without it.
  with begin() as process:
    wait_for(out / "tiny_run" / "seed4" / "checkpoints")
    os.kill(process.pid, signal.SIGKILL)
  # Told to stop while it waits for that run, or trains the second.
  with begin() as process:
    wait_for(out / dense / "seed4" / ".lock")
    process.send_signal(signal.SIGTERM)
    printed, error = process.communicate()
  assert process.returncode == 143, error
  assert "the same command goes on" in error
  assert "PARTIAL" in printed
  with begin("--jobs=2") as process:
    printed, error = process.communicate()
  assert process.returncode == 0, printed + error
  assert "2 of 2 runs finished" in printed
  rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
  rows = [row for row in rows if row["measure"] == "dense accuracy"]
  assert [row["arm"] for row in rows] == ["tiny_run", dense]
  assert all(0 <= float(row["mean"]) <= 1 for row in rows)
  # Again: nothing is trained.
  before = {p: p.stat().st_mtime_ns for p in out.glob("*/seed4/summary.json")}
  with begin() as process:
    printed, _ = process.communicate()
  assert "2 of 2 finished before" in printed
  assert {p: p.stat().st_mtime_ns for p in before} == before
