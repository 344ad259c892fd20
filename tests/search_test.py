"""``sparse_regimes search`` and ``sparse_regimes table``, at small scale."""

import argparse
import contextlib
import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from etils import epath
from optuna.trial import TrialState
from running import ROOT, TINY_RUN, TINY_TEXT

from sparse_regimes.commands.train import NotFinite, train
from sparse_regimes.runs import config as configs
from sparse_regimes.studies import arms as arms_and_seeds
from sparse_regimes.studies import search as searching
from sparse_regimes.studies import table as reproduce_table
from sparse_regimes.studies.cli import exit_code
from sparse_regimes.studies.measures import MOST_COLUMNS

FIELDS = "controller.tighten_pct:0.01:0.5:log,controller.decide_every:1:4"
SMALL = (
  "--config.train.epochs=2",
  "--config.train.batch_size=512",
  "--config.eval.batch_size=256",
  "--config.eval.num_train=256",
)


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
    ("seed:1:5", "seed is the same for every trial"),
    ("data.evaluate_on=test|validation", "is always validation"),
  ],
)
def test_fields_that_cannot_be_searched(tmp_path, capsys, fields, message):
  out = tmp_path / "out"
  code, line = error_of(
    searching.search,
    ["--config=smoke", f"--fields={fields}", f"--out={out}"],
    capsys,
  )
  assert code == 2
  assert message in line
  assert not out.exists()


def test_a_search_of_other_fields_is_refused(tmp_path, capsys):
  arguments = ["--config=smoke", "--trials=1", f"--out={tmp_path}"]
  field = "controller.tighten_pct:0.01:0.2"
  args = [*arguments, f"--fields={field}", "--minutes=0.000001"]
  assert exit_code(lambda: searching.search(args)) == 4
  capsys.readouterr()
  code, line = error_of(
    searching.search, [*arguments, "--fields=model.norm=rms|ln"], capsys
  )
  assert code == 2
  assert "which differs in" in line
  (tmp_path / "search.log").write_text("[1]\n")
  code, line = error_of(searching.search, args, capsys)
  assert code == 2
  assert "search.log must be a search" in line


@pytest.mark.run
def test_a_killed_search_goes_on_and_writes_its_best(tmp_path):
  out = tmp_path / "out"
  command = [
    *(sys.executable, "-u", "-m", "sparse_regimes", "search"),
    *(f"--config={TINY_RUN}", f"--fields={FIELDS}", "--trials=2"),
    *(f"--out={out}", *SMALL, "--config.data.num_test=128"),
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
  assert len(rows) == 2
  # The first trial's values were tried, and only once.
  folders = {p.name for p in out.iterdir() if p.is_dir()}
  assert len(folders) == 2
  values = {row["controller.tighten_pct"] for row in rows}
  assert len(values) == 2
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


class Child:
  """Instead of a run's process: its log is there at once."""

  def __init__(self, run, claim, accuracies, code=0):
    lines = [
      {"epoch": i, "test_dense_accuracy": a}
      for i, a in enumerate(accuracies, start=1)
    ]
    run.workdir.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.workdir / "metrics.jsonl").write_text(text)
    run.workdir.with_suffix(".log").write_text("error: the disk is full\n")
    self.returncode, self.claim = code, claim

  def poll(self):
    return self.returncode

  def send_signal(self, _):
    self.returncode = 143

  def wait(self):
    self.claim.close()


def search(monkeypatch, tmp_path, children, *arguments):
  """Runs a search whose trials are ``children``, one after another."""
  left = list(children)

  def start(run, claim):
    with claim if left[0][1] is not None else contextlib.nullcontext():
      return Child(run, claim, *left.pop(0))

  monkeypatch.setattr(searching, "start", start)
  monkeypatch.setattr(
    searching,
    "read_records",
    lambda p: [*map(json.loads, p.read_text().splitlines())],
  )
  return exit_code(
    lambda: searching.search(
      [
        *("--config=smoke", "--fields=optimizer.learning_rate:0.01:1:log"),
        *(f"--out={tmp_path / 'out'}", "--config.train.epochs=2", *arguments),
      ]
    )
  )


def states(tmp_path):
  with open(tmp_path / "out" / "trials.csv") as file:
    return [(row["state"], row["epochs"]) for row in csv.DictReader(file)]


def test_a_trial_below_the_median_is_pruned(monkeypatch, tmp_path):
  good = [([0.5, 0.6], 0)] * 4
  # The last is still running when its first epoch is seen.
  children = [*good, ([0.1], None)]
  assert search(monkeypatch, tmp_path, children, "--trials=5") == 0
  assert states(tmp_path) == [("complete", "2")] * 4 + [("pruned", "1")]


def test_trials_that_fail_end_the_search(monkeypatch, tmp_path, capsys):
  assert search(monkeypatch, tmp_path, [([], 1)] * 5, "--trials=9") == 1
  printed = capsys.readouterr()
  assert printed.out.count("failed  ") == 5
  assert "it ended with 1: error: the disk is full" in printed.err


def test_out_of_time_a_trial_is_put_back(monkeypatch, tmp_path):
  arguments = ("--trials=1", "--minutes=0.001")
  assert search(monkeypatch, tmp_path, [([0.5], None)], *arguments) == 4
  # The same folder and the same values, and no second trial.
  assert search(monkeypatch, tmp_path, [([0.5, 0.6], 0)], "--trials=1") == 0
  assert states(tmp_path) == [("complete", "2")]
  folders = [p for p in (tmp_path / "out").iterdir() if p.is_dir()]
  assert [p.name for p in folders] == ["trial0"]


def test_a_trial_is_put_back_once_and_with_its_values(monkeypatch, tmp_path):
  field = searching.Field("optimizer.learning_rate", 0.01, 1.0, log=True)
  study = searching.open_study(
    argparse.Namespace(config="smoke", out=tmp_path),
    [field],
    [],
    "test_dense_accuracy",
  )
  trial, claim = searching.ask(study, tmp_path, 1, seed=0)
  claim.close()
  value = field.suggest(trial)

  def killed(*_, **__):
    raise KeyboardInterrupt

  # After it was queued again, before it was told of.
  with monkeypatch.context() as patch:
    patch.setattr(study, "tell", killed)
    with pytest.raises(KeyboardInterrupt):
      searching.put_back(study, study.get_trials()[0])
  for _ in range(2):
    # Killed before its values were asked for: they are known all the same.
    trial, claim = searching.ask(study, tmp_path, 1, seed=0)
    claim.close()
    assert trial.user_attrs[searching.FOLDER] == "trial0"
  assert field.suggest(trial) == value
  assert not study.get_trials(states=(TrialState.WAITING,))


def test_an_out_below_a_file_is_a_line(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  code, line = error_of(
    searching.search,
    ["--config=smoke", f"--fields={FIELDS}", f"--out={tmp_path}/file/out"],
    capsys,
  )
  assert code == 2
  assert "a file is in the way" in line


def test_searches_side_by_side_do_not_draw_alike(tmp_path):
  field = searching.Field("optimizer.learning_rate", 0.01, 1.0, log=True)
  arguments = argparse.Namespace(config="smoke", out=tmp_path)
  drawn, claims = [], []
  tmp_path.mkdir(exist_ok=True)
  studies = [
    searching.open_study(arguments, [field], [], "test_dense_accuracy")
    for _ in range(2)
  ]
  for study in studies:
    trial, claim = searching.ask(study, tmp_path, 2, seed=0)
    drawn.append(field.suggest(trial))
    claims.append(claim)
  assert drawn[0] != drawn[1]
  assert searching.ask(studies[0], tmp_path, 2, seed=0) is None
  for claim in claims:
    claim.close()


def test_a_folder_with_quotes_gives_a_config_that_can_be_read(
  monkeypatch, tmp_path
):
  out = tmp_path / 'a "quoted" \\ folder'
  arguments = ("--trials=1", f"--out={out}")
  assert search(monkeypatch, tmp_path, [([0.5, 0.6], 0)], *arguments) == 0
  best = configs.load(str(out / "best.py"))
  assert 0.01 <= best.optimizer.learning_rate <= 1


@pytest.mark.run
def test_the_table_is_filled_in_pieces(tmp_path):
  out = tmp_path / "out"
  arguments = [
    *(f"--out={out}", *SMALL, "--config.data.name=cifar10_mini"),
    *("--config.model.name=residual_mlp", "--config.model.width=16"),
    *("--config.model.depth=2", "--config.model.norm=ln"),
    "--config.checkpoint.every_steps=1",
  ]
  module = ("-u", "-m", "sparse_regimes", "table")
  command = [sys.executable, *module, *arguments, "--minutes=0"]

  assert reproduce_table.table([*arguments, "--minutes=0.000001"]) == 4
  assert "PARTIAL: 0 of 3 runs finished" in (out / "table.md").read_text()
  # Killed, with the run it trains, once there is something to go on from.
  dense = out / "wrn_dense"

  def written():
    # One that is being written has a longer name.
    names = (path.name for path in dense.glob("seed3407/checkpoints/*"))
    return any(re.fullmatch(r"\d+", name) for name in names)

  with subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  ) as process:
    until = time.monotonic() + 200
    while not written():
      assert time.monotonic() < until
      time.sleep(0.05)
    process.kill()
    holder = (dense / "seed3407" / ".lock").read_text()
    os.kill(int(holder.split()[1]), signal.SIGKILL)
  done = subprocess.run(
    command, cwd=ROOT, check=False, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr
  content = json.loads((out / "table.json").read_text())
  assert content["state"].startswith("3 of 3 runs finished. NOT the paper's")
  for row in content["rows"]:
    assert row["paper"] == reproduce_table.PAPER[row["arm"]]
    assert row["state"] == "finished"
    assert 0 <= row["dense accuracy"] <= 1
  assert "resumed     after step" in (dense / "seed3407.log").read_text()


@pytest.mark.run
def test_a_run_that_diverges_is_no_finished_one(tmp_path):
  overrides = [
    *("data.name=cifar10_mini", "train.epochs=2", "train.batch_size=512"),
    *("model.name=residual_mlp", "model.width=16", "model.depth=2"),
    *("model.norm=ln", "optimizer.learning_rate=1e30"),
  ]
  (run,) = arms_and_seeds.make_runs(["wrn_dense"], [0], tmp_path, overrides)
  with pytest.raises(NotFinite):
    train(run.load(), epath.Path(run.workdir), lambda _: None)
  assert reproduce_table.row(run)["state"] == "diverged after epoch 0 of 2"
  summary = run.summary()
  assert summary["diverged"]
  assert math.isnan(summary["final_test_dense_accuracy"])
  text = reproduce_table.write_table(tmp_path, [run], [], "a command")
  assert text.startswith("PARTIAL: 0 of 1 runs finished")
  # What a terminal has room for; all is in the other file.
  assert text.splitlines()[1].count(" | ") < MOST_COLUMNS
  (kept,) = json.loads((tmp_path / "table.json").read_text())["rows"]
  assert {*kept} == {*reproduce_table.COLUMNS}


def test_the_table_names_bad_input(tmp_path, capsys):
  for arguments, message in (
    (["--minutes=-1"], "--minutes must be at least 0"),
    (["--seeds=a"], "--seeds must be a number"),
    (["--config.train.epoch=3"], "train has no field 'epoch'"),
  ):
    code, line = error_of(
      reproduce_table.table, [*arguments, f"--out={tmp_path}"], capsys
    )
    assert code == 2
    assert message in line


def test_of_a_loss_the_least_is_the_best(tmp_path):
  config = configs.load(str(TINY_TEXT), ["data.num_validation=4"])
  own, judged_by = searching.held_out(config)
  assert (own, judged_by) == ([], "validation_dense_loss")
  field = searching.Field("optimizer.learning_rate", 0.01, 1.0, log=True)
  arguments = argparse.Namespace(config=str(TINY_TEXT), out=tmp_path)
  study = searching.open_study(arguments, [field], [], judged_by)
  for loss in (3.0, 2.0, 2.5):
    trial = study.ask()
    field.suggest(trial)
    study.tell(trial, loss)
  searching.write_results(study, tmp_path, str(TINY_TEXT), [], judged_by)
  assert study.best_value == 2.0
  with open(tmp_path / "trials.csv") as file:
    assert [row["loss"] for row in csv.DictReader(file)] == [
      *("3.0000", "2.0000", "2.5000")
    ]
  assert "2.0000 dense loss on held-out" in (tmp_path / "best.py").read_text()


def test_what_an_actor_and_a_text_are_judged_by(capsys):
  play = configs.load(str(TINY_TEXT.with_name("tiny_play.py")))
  assert searching.held_out(play) == ([], "test_dense_return")
  # The windows it is tested on must not choose.
  arguments = [f"--config={TINY_TEXT}", "--fields=optimizer.momentum:0.1:0.9"]
  assert exit_code(lambda: searching.search(arguments)) == 2
  assert "data.num_validation must be above 0" in capsys.readouterr().err
