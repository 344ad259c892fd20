"""Runs as a user starts them: processes with a command line."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY_RUN = Path(__file__).parent / "tiny_run.py"
TINY_TEXT = TINY_RUN.with_name("tiny_text.py")
TINY_PLAY = TINY_RUN.with_name("tiny_play.py")


def start(workdir, *arguments):
  """Starts a run of ``tiny_run``."""
  return subprocess.Popen(
    [
      *(sys.executable, "-u", "-m", "sparse_regimes.main"),
      f"--config={TINY_RUN}",
      *(f"--workdir={workdir}", *arguments),
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
  )


def run(workdir, *arguments):
  """Runs to the end; returns what was printed."""
  with start(workdir, *arguments) as process:
    out, error = process.communicate()
  assert process.returncode == 0, error
  return out


def read_until(process, start_of_line):
  for line in process.stdout:
    if line.startswith(start_of_line):
      return
  raise AssertionError(process.stderr.read())


def records_of(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]
