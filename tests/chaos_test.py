"""The short form of ``make chaos``."""

import subprocess
import sys

import pytest
from running import ROOT


@pytest.mark.run
@pytest.mark.parametrize("config", ["tiny_run", "tiny_text", "tiny_play"])
def test_kills_leave_no_trace(config):
  subprocess.run(
    [
      sys.executable,
      str(ROOT / "experiments" / "chaos.py"),
      f"--config={ROOT / 'tests' / f'{config}.py'}",
      *("--kills=3", "--epochs=2"),
      "--moments=saving,evaluating,logging",
    ],
    check=True,
  )
