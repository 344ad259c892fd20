import json

import numpy as np

from sparse_regimes.pace import Pace
from sparse_regimes.writers import MetricWriter, Progress

RECORD = {"epoch": 1, "step": 10, "keep_ratio": 0.5, "cooldown": None}


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
  with MetricWriter(tmp_path) as writer:
    writer.write(RECORD)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [RECORD]
    writer.write(RECORD | {"epoch": 2})
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_what_is_not_finite_is_null(tmp_path):
  with MetricWriter(tmp_path) as writer:
    writer.write(RECORD | {"keep_ratio": float("nan")})
  assert json.loads((tmp_path / "metrics.jsonl").read_text()) == RECORD | {
    "keep_ratio": None
  }


def test_tensorboard_gets_the_numbers(tmp_path):
  with MetricWriter(tmp_path) as writer:
    writer.write(RECORD)
  (events,) = tmp_path.glob("events.out.tfevents.*")
  assert b"keep_ratio" in events.read_bytes()
  assert b"cooldown" not in events.read_bytes()


def metrics(num_steps):
  names = ("loss", "accuracy", "keep_ratio")
  return {name: np.full(num_steps, 0.5) for name in names}


def test_plain_lines_without_a_terminal(capsys):
  pace = Pace(batch_size=100, num_test_images=100)
  with Progress(
    epochs=2,
    steps_per_epoch=8,
    pace=pace,
    describe_cost=lambda pace: "the cost",
    seconds_between_lines=0.0,
  ) as progress:
    for epoch in (1, 2):
      progress.start_epoch(epoch)
      progress.steps(metrics(3))
      progress.steps(metrics(5))
  lines = capsys.readouterr().out.splitlines()
  # The cost is told once, after five steps.
  assert [line.split(" epoch")[0] for line in lines] == [
    "step 3/16",
    "the cost",
    "step 8/16",
    "step 11/16",
    "step 16/16",
  ]
  for part in ("loss 0.500", "acc 0.500", "keep 0.500", "images/s", "left"):
    assert part in lines[0]


def test_a_bar_on_a_terminal(capsys, monkeypatch):
  monkeypatch.setattr("sys.stderr.isatty", lambda: True)
  with Progress(
    epochs=1,
    steps_per_epoch=8,
    pace=Pace(batch_size=100, num_test_images=100),
    describe_cost=lambda pace: "the cost",
  ) as progress:
    progress.start_epoch(1)
    progress.steps(metrics(8))
    progress.line("a line that stays")
  out, err = capsys.readouterr()
  assert "a line that stays" in out
  assert "8/8" in err
