"""experiments/sweep.py and experiments/reproduce_table.py, at small scale."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import reproduce_table
import sweep
from command import exit_code
from running import ROOT

from sparse_regimes import config as configs

FIELDS = "controller.tighten_pct:0.01:0.5:log,controller.decide_every:1:4"
SMALL = ("--config.train.epochs=2", "--config.train.batch_size=512")


def error_of(command, arguments, capsys):
  code = exit_code(lambda: command(arguments))
  (line,) = capsys.readouterr().err.splitlines()
  return code, line


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ("", "--fields must be NAME:LOW:HIGH"),
    ("seed:1", "--fields must be NAME:LOW:HIGH"),
    ("optimizer.learning_rate:0.1:0.01", "must have LOW below HIGH"),
    ("optimizer.learning_rate:0:0.01:log", "above 0 with :log"),
    ("optimizer.learning_rate:a:b", "must have LOW below HIGH"),
    ("optimizer.lr:0.1:0.2", "no number or name 'optimizer.lr'"),
    ("optimizer.milestones:1:2", "no number or name 'optimizer.milestones'"),
    ("optimizer.momentum:0.1:1.5", "optimizer.momentum must be in [0, 1)"),
    ("model.norm=rms|batch", "model.norm must be one of"),
  ],
)
def test_fields_that_cannot_be_searched(tmp_path, capsys, fields, message):
  out = tmp_path / "out"
  code, line = error_of(
    sweep.sweep,
    ["--config=smoke", f"--fields={fields}", f"--out={out}"],
    capsys,
  )
  assert code == 2
  assert message in line
  assert not out.exists()


def test_a_search_of_other_fields_is_refused(tmp_path, capsys):
  arguments = ["--config=smoke", "--trials=1", f"--out={tmp_path}"]
  args = [*arguments, "--fields=seed:1:5", "--minutes=0.000001"]
  assert exit_code(lambda: sweep.sweep(args)) == 4
  capsys.readouterr()
  code, line = error_of(
    sweep.sweep, [*arguments, "--fields=model.norm=rms|ln"], capsys
  )
  assert code == 2
  assert "which differs in" in line
  (tmp_path / "search.log").write_text("[1]\n")
  code, line = error_of(sweep.sweep, args, capsys)
  assert code == 2
  assert "search.log must be a search" in line


@pytest.mark.usefixtures("compile_once")
def test_a_killed_search_goes_on_and_writes_its_best(tmp_path):
  out = tmp_path / "out"
  command = [
    *(sys.executable, "-u", str(ROOT / "experiments" / "sweep.py")),
    *("--config=smoke", f"--fields={FIELDS}", "--trials=3", f"--out={out}"),
    *(*SMALL, "--config.data.num_test=128"),
  ]
  with subprocess.Popen(command, cwd=ROOT) as process:
    until = time.monotonic() + 200
    while not (out / "trial0" / "checkpoints").exists():
      assert time.monotonic() < until
      time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
  # Its child trains on; the trial is queued again when that is gone.
  while (out / "trial0" / ".lock").exists() and not (
    out / "trial0" / "summary.json"
  ).exists():
    assert time.monotonic() < until
    time.sleep(0.1)
  done = subprocess.run(
    command, cwd=ROOT, check=False, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr
  with open(out / "trials.csv") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 3
  # The first trial's values were tried, and only once.
  folders = {p.name for p in out.iterdir() if p.is_dir()}
  assert len(folders) == 3
  values = {row["controller.tighten_pct"] for row in rows}
  assert len(values) == 3
  best = configs.load(str(out / "best.py"))
  complete = [row for row in rows if row["state"] == "complete"]
  accuracy = max(float(row["accuracy"]) for row in complete)
  # Several may be as good.
  assert best.controller.tighten_pct in [
    pytest.approx(float(row["controller.tighten_pct"]))
    for row in complete
    if float(row["accuracy"]) == accuracy
  ]
  assert best.data.evaluate_on == "test"
  assert best.train.batch_size == 512
  page = (out / "sweep.html").read_text()
  assert f"{accuracy:.4f} dense accuracy on held-out" in page
  assert (out / "importance.png").stat().st_size > 10_000


@pytest.mark.usefixtures("compile_once")
def test_the_table_is_filled_in_pieces(tmp_path):
  out = tmp_path / "out"
  command = [
    *(sys.executable, "-u", str(ROOT / "experiments" / "reproduce_table.py")),
    *(f"--out={out}", *SMALL, "--config.data.name=cifar10_mini"),
    *("--config.model.depth=10", "--config.model.widen=1"),
    "--config.checkpoint.every_steps=1",
  ]

  def piece(minutes):
    return subprocess.run(
      [*command, f"--minutes={minutes}"],
      cwd=ROOT,
      check=False,
      capture_output=True,
      text=True,
    )

  done = piece(0.05)
  assert done.returncode == 4, done.stdout + done.stderr
  assert "PARTIAL: 0 of 3 runs finished" in (out / "table.md").read_text()
  done = piece(0)
  assert done.returncode == 0, done.stdout + done.stderr
  content = json.loads((out / "table.json").read_text())
  assert content["state"].startswith("3 of 3 runs finished. NOT the paper's")
  for row in content["rows"]:
    assert row["paper"] == reproduce_table.PAPER[row["arm"]]
    assert row["state"] == "finished"
    assert 0 <= row["dense accuracy"] <= 1


def test_the_table_names_bad_input(tmp_path, capsys):
  for arguments, message in (
    (["--minutes=-1"], "--minutes must be at least 0"),
    (["--seeds=a"], "--seeds must be a number"),
    (["--config.train.epoch=3"], "train has no field 'epoch'"),
  ):
    code, line = error_of(
      reproduce_table.reproduce, [*arguments, f"--out={tmp_path}"], capsys
    )
    assert code == 2
    assert message in line
