"""The short form of ``make chaos``."""

import subprocess
import sys

import pytest
from running import ROOT


@pytest.mark.usefixtures("compile_once")
def test_kills_leave_no_trace():
  subprocess.run(
    [
      sys.executable,
      str(ROOT / "experiments" / "chaos.py"),
      *("--kills=3", "--epochs=2", "--moments=saving,evaluating,logging"),
    ],
    check=True,
  )
