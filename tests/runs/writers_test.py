import json
from typing import ClassVar

import numpy as np
import pytest

from sparse_regimes.errors import InputError
from sparse_regimes.runs.loggers import makers_of
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


def test_tensorboard_gets_the_numbers_in_groups(tmp_path):
  with MetricWriter(
    tmp_path, [], config={"seed": 3}, backends=makers_of("tensorboard")
  ) as writer:
    writer.write(
      [RECORD | {"test_dense_loss": 2.0}],
      sites={"sites_dense/head": 0.25},
      moves=[(1, 1.0), (4, 0.7), (10, 0.5)],
    )
  (events,) = tmp_path.glob("events.out.tfevents.*")
  content = events.read_bytes()
  for name in (
    b"controller/keep_ratio",
    b"test_dense/loss",
    b"sites_dense/head",
  ):
    assert name in content
  assert content.count(b"controller/keep_ratio") == 3
  assert b"cooldown" not in content
  (events,) = tmp_path.glob("hyper_parameters/events.out.tfevents.*")
  assert b"seed" in events.read_bytes()


class Listed:
  """A logger of one's own."""

  written: ClassVar[list] = []

  def __init__(self, start):
    self.written.append(start)

  def write(self, step, values):
    self.written.append((step, values))

  def close(self):
    self.written.append("closed")


def test_a_logger_of_one_s_own_goes_on_from_where_the_run_was(tmp_path):
  Listed.written.clear()
  second = RECORD | {"epoch": 2, "step": 20}
  with MetricWriter(tmp_path, [RECORD], backends=[Listed]) as writer:
    writer.write([RECORD, second], moves=[(5, 0.9), (15, 0.6), (20, 0.5)])
  start, *written, closed = Listed.written
  assert (start.workdir, start.step) == (tmp_path, 10)
  assert written == [
    (15, {"controller/keep_ratio": 0.6}),
    (20, {"controller/keep_ratio": 0.5}),
  ]
  assert closed == "closed"


def test_backends_are_named(tmp_path):
  assert makers_of("") == []
  with pytest.raises(InputError, match=r"'tensorbord'; did you mean"):
    makers_of("tensorbord")
  with pytest.raises(InputError, match=r"log\.backends: there is no file"):
    makers_of(f"wandb,{tmp_path}/none.py:Logger")


def test_weights_and_biases_offline_is_one_run_that_goes_on(
  tmp_path, monkeypatch
):
  pytest.importorskip("wandb")
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_SILENT", "true")
  names = set()
  for records in ([RECORD], [RECORD, RECORD | {"epoch": 2, "step": 20}]):
    with MetricWriter(
      tmp_path,
      records[:-1],
      config={"seed": 3},
      backends=makers_of("wandb"),
    ) as writer:
      writer.write(records)
    names.add((tmp_path / "wandb_id").read_text())
  assert len(names) == 1
  folders = list(tmp_path.glob("wandb/offline-run-*"))
  assert len(folders) == 2
  assert all(names.copy().pop() in folder.name for folder in folders)


def metrics(num_steps):
  names = ("loss", "accuracy", "keep_ratio")
  return {name: np.full(num_steps, 0.5) for name in names}


def test_plain_lines_without_a_terminal(capsys):
  pace = Pace(batch_size=100, num_evaluated=100)
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
    pace=Pace(batch_size=100, num_evaluated=100),
    log=print,
    describe_cost=lambda pace: "the cost",
  ) as progress:
    progress.start_epoch(1)
    progress.steps(metrics(8))
    progress.line("a line that stays")
  out, err = capsys.readouterr()
  assert "a line that stays" in out
  assert "8/8" in err
