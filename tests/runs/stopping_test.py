import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
from running import ROOT

from sparse_regimes import interrupts
from sparse_regimes.runs.stopping import Stopped, StopSignals

# A main thread that is too busy to look, as while it compiles.
BUSY = """
import time
from sparse_regimes.runs import stopping
stopping.GRACE_SECONDS = {grace}
with stopping.StopSignals() as stop:
  stop.graceful = True
  print("ready", flush=True)
  while True:
    time.sleep(0.1)
"""


def start(grace):
  process = subprocess.Popen(
    [sys.executable, "-c", BUSY.format(grace=grace)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "ready\n"
  return process


def test_a_request_is_there_to_be_read():
  with StopSignals() as stop:
    stop.graceful = True
    stop.check()
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested == signal.SIGTERM
    with pytest.raises(Stopped) as stopped:
      stop.check()
  assert stopped.value.exit_code == 143
  assert str(stopped.value) == "SIGTERM"


def test_where_nothing_has_to_be_saved_it_stops_at_once():
  with pytest.raises(Stopped, match="SIGINT"), StopSignals():
    signal.raise_signal(signal.SIGINT)


def test_no_handler_of_errors_takes_it_for_one():
  with pytest.raises(Stopped), contextlib.suppress(Exception):
    raise Stopped(signal.SIGTERM)


def test_handlers_are_put_back():
  before = signal.getsignal(signal.SIGTERM)
  with StopSignals():
    assert signal.getsignal(signal.SIGTERM) != before
  assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.run
def test_a_second_signal_ends_at_once():
  with start(grace=60) as process:
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM: finishing" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert "again: ending at once" in process.stderr.readline()
  assert process.returncode == 130


@pytest.mark.run
def test_a_termination_that_comes_twice_at_once_is_one():
  with start(grace=3) as process:
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM: finishing" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    # It goes on to the end of the grace.
    assert "not done after 3 s" in process.stderr.readline()
  assert process.returncode == 143


@pytest.mark.run
def test_the_grace_ends():
  with start(grace=0.5) as process:
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=20)
  assert time.monotonic() - asked >= 0.5
  assert "ending at once" in error
  assert process.returncode == 143


@pytest.mark.run
@pytest.mark.parametrize("module", ["sparse_regimes", "sparse_regimes.main"])
def test_while_it_is_imported_it_ends_with_a_line(tmp_path, module):
  # What is imported first says so, and then takes its time: in short naps, as
  # a signal just before one sleep of a minute would be seen at its end.
  (tmp_path / "jax.py").write_text(
    "import time\nprint('importing', flush=True)\n"
    "for _ in range(600):\n  time.sleep(0.1)\n"
  )
  with subprocess.Popen(
    [sys.executable, "-m", module, "list"],
    env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    # Of a job in the background a shell ignores it.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
  assert process.returncode == 130
  assert error == "stopped by SIGINT\n"


def test_who_imports_the_package_keeps_his_handler():
  before = signal.getsignal(signal.SIGINT)
  interrupts.while_importing()
  assert signal.getsignal(signal.SIGINT) is before
