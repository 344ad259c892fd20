"""The short form of ``make chaos``."""

import subprocess
import sys

import pytest
from running import ROOT, TINY_RUN


@pytest.mark.run
def test_kills_leave_no_trace():
  subprocess.run(
    [
      sys.executable,
      str(ROOT / "experiments" / "chaos.py"),
      *(f"--config={TINY_RUN}", "--kills=3", "--epochs=2"),
      "--moments=saving,evaluating,logging",
    ],
    check=True,
  )
