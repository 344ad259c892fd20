import json

import numpy as np

from sparse_regimes.runs.pace import Pace
from sparse_regimes.runs.writers import MetricWriter, Progress

RECORD = {"epoch": 1, "step": 10, "keep_ratio": 0.5, "cooldown": None}


def lines_of(folder):
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
  second = RECORD | {"epoch": 2, "step": 20}
  with MetricWriter(tmp_path, []) as writer:
    writer.write([RECORD])
    assert lines_of(tmp_path) == [RECORD]
    writer.write([RECORD, second])
  assert lines_of(tmp_path) == [RECORD, second]


def test_a_run_that_goes_on_has_the_lines_up_to_there(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"ep')
  with MetricWriter(tmp_path, [RECORD]):
    assert lines_of(tmp_path) == [RECORD]


def test_tensorboard_gets_the_numbers(tmp_path):
  with MetricWriter(tmp_path, []) as writer:
    writer.write([RECORD])
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
    log=print,
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
    log=print,
    describe_cost=lambda pace: "the cost",
  ) as progress:
    progress.start_epoch(1)
    progress.steps(metrics(8))
    progress.line("a line that stays")
  out, err = capsys.readouterr()
  assert "a line that stays" in out
  assert "8/8" in err
