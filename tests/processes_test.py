"""Two real processes on this machine train one network."""

import signal
import socket
import time

import numpy as np
import pytest
from running import read_until, records_of, run, start

from sparse_regimes import processes
from sparse_regimes.errors import InputError


def test_alone_there_is_nothing_to_agree_on():
  assert processes.on_first(lambda: [1, "a"]) == [1, "a"]
  assert processes.any_of_all(True, False) == [True, False]
  assert not processes.preempted(1)
  assert processes.is_first()


def test_arguments_come_together():
  with pytest.raises(
    InputError, match="must be given together, got a:1, 2, No"
  ):
    processes.initialize("a:1", 2, None)


def start_two(workdir, *arguments, second=()):
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  together = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2")
  return [
    start(workdir, *arguments, *together, f"--process_id={i}", *more)
    for i, more in enumerate([(), second])
  ]


@pytest.mark.run
def test_what_is_wrong_with_one_ends_both(tmp_path):
  both = start_two(tmp_path / "run", second=["--config.seed=1"])
  errors = [p.communicate(timeout=60)[1] for p in both]
  assert "--config must be the same in all processes" in errors[1]
  assert "another process of the run has bad input" in errors[0]
  assert [p.returncode for p in both] == [2, 2]
  assert not (tmp_path / "run").exists()


@pytest.mark.run
def test_two_train_and_stop_together_and_one_goes_on(tmp_path, trained):
  workdir = tmp_path / "two"
  first, second = start_two(workdir, "--config.train.epochs=2")
  read_until(first, "epoch ")
  second.send_signal(signal.SIGTERM)
  outputs = [p.communicate(timeout=90) for p in (first, second)]
  assert [p.returncode for p in (first, second)] == [143, 143], outputs
  # The first speaks for both.
  said = [s for s in outputs[1][0].splitlines() if not s.startswith("[Gloo]")]
  assert said == []

  out = run(workdir, "--config.train.epochs=2")
  assert "resumed     after step" in out
  for record, expected in zip(
    records_of(workdir), records_of(trained), strict=True
  ):
    # The same decisions; the numbers differ as sums in another order do.
    for name in ("step", "keep_ratio", "cooldown"):
      assert record[name] == expected[name]
    for name in ("train_loss", "train_accuracy", "ema_accuracy"):
      np.testing.assert_allclose(record[name], expected[name], rtol=0.05)


@pytest.mark.run
def test_two_start_from_what_one_trained(tmp_path, trained):
  arguments = (
    "--config.train.epochs=1",
    "--config.optimizer.learning_rate=0.0",
    f"--config.train.start_from={trained}",
  )
  first, second = start_two(tmp_path / "two", *arguments)
  outputs = [p.communicate(timeout=200) for p in (first, second)]
  assert [p.returncode for p in (first, second)] == [0, 0], outputs
  best = max(records_of(trained), key=lambda r: r["test_dense_accuracy"])
  said = f"start from  {trained}, epoch {best['epoch']}; new: nothing"
  assert said in outputs[0][0]
  # The one's parameters, which no step has moved.
  (after,) = records_of(tmp_path / "two")
  assert after["test_dense_accuracy"] == best["test_dense_accuracy"]


@pytest.mark.run
def test_one_that_dies_ends_the_other(tmp_path):
  first, second = start_two(tmp_path, "--config.train.epochs=1000")
  read_until(first, "epoch ")
  second.kill()
  second.communicate()
  died = time.monotonic()
  _, error = first.communicate(timeout=120)
  assert time.monotonic() - died < 60
  assert first.returncode not in (0, None)
  assert "another process ended" in error
