"""A run is stopped, spoilt or extended, and goes on as if it had not been."""

import json
import shutil
import signal
import time

import pytest
from running import read_until, records_of, run, start

pytestmark = pytest.mark.run


def test_asked_to_stop_it_saves_and_goes_on(tmp_path, trained):
  with start(tmp_path / "run", "--config.train.epochs=2") as process:
    # Not an epoch has ended, so what it has was saved because it was asked.
    read_until(process, "estimate")
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
  assert time.monotonic() - asked < 30
  assert process.returncode == 130
  assert error.splitlines() == [
    "SIGINT: finishing the step and saving; once more to end at once",
    "stopped by SIGINT; the same command with"
    f" --workdir={tmp_path / 'run'} goes on",
  ]
  out = run(tmp_path / "run", "--config.train.epochs=2")
  assert "resumed     after step" in out
  assert " for what is left of 2 epochs, at" in out
  for record, wanted in zip(
    records_of(tmp_path / "run"), records_of(trained), strict=True
  ):
    # The clock decides this, and nothing else differs.
    assert record | {"images_per_second": 0} == wanted | {
      "images_per_second": 0
    }


def test_more_epochs_go_on_from_the_last(tmp_path, trained):
  workdir = tmp_path / "run"
  shutil.copytree(trained, workdir)
  out = run(workdir, "--config.train.epochs=3")
  assert "resumed     after step 20, with 2 of 3 epochs" in out
  assert [r["epoch"] for r in records_of(workdir)] == [1, 2, 3]


def test_the_summary_comes_last(tmp_path, trained):
  written = {
    name: (trained / name).stat().st_mtime_ns
    for name in ("summary.json", "trace.json", "curves.png", "report.html")
  }
  assert max(written, key=written.get) == "summary.json"
  # Killed before that, the run is not taken for finished.
  workdir = tmp_path / "run"
  shutil.copytree(trained, workdir)
  for name in ("summary.json", "report.html"):
    (workdir / name).unlink()
  run(workdir, "--config.train.epochs=2", "--config.log.page=True")
  assert "total time" in (workdir / "report.html").read_text()
  assert (workdir / "summary.json").exists()


def test_a_log_without_checkpoints_is_not_overwritten(tmp_path, trained):
  workdir = tmp_path / "run"
  shutil.copytree(trained, workdir)
  shutil.rmtree(workdir / "checkpoints")
  log = workdir / "metrics.jsonl"
  log.write_text(3 * log.read_text())
  with start(workdir, "--config.train.epochs=2") as process:
    _, error = process.communicate()
  assert process.returncode == 2
  assert "with metrics.jsonl but none; --force_new" in error
  assert len(log.read_text().splitlines()) == 6


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
  workdir = tmp_path / "run"
  arguments = [
    "--config.train.epochs=2",
    "--config.optimizer.learning_rate=1e30",
  ]
  with start(workdir, *arguments) as process:
    _, error = process.communicate()
  assert process.returncode == 3
  assert error.startswith("error: the training loss was not finite in epoch 1")
  (record,) = records_of(workdir)
  assert record["train_loss"] is None
  assert record["test_dense_accuracy"] is None
  assert 1 < record["step"] < 6

  out = run(workdir, *arguments, "--config.train.on_nonfinite=skip")
  # No state that is spoilt was saved to go on from.
  assert "resumed" not in out
  assert len(records_of(workdir)) == 2
  summary = json.loads((workdir / "summary.json").read_text())
  assert 10 < summary["skipped_steps"] < 20
  assert "steps skipped so far: not finite" in out
