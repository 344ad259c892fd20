"""What ^C does while the program is still being imported."""

import os
import signal
import sys
from typing import Any


def while_importing() -> None:
  """Ends the program without a traceback out of what is being imported.

  A program that imports the package as a library keeps its own handler.
  """
  handler = signal.getsignal(signal.SIGINT)
  if _is_program() and handler is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)


def from_now_on() -> None:
  """^C is a ``KeyboardInterrupt`` again."""
  if signal.getsignal(signal.SIGINT) is _leave:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_program() -> bool:
  """Whether Python was told to run this package, and is importing it."""
  if os.path.basename(sys.argv[0]) == "sparse-regimes":
    return True
  told = [*sys.orig_argv, ""]
  module = told[told.index("-m") + 1] if "-m" in told else ""
  return sys.argv[0] == "-m" and module.partition(".")[0] == "sparse_regimes"


def _leave(*_: Any) -> None:
  print("stopped by SIGINT", file=sys.stderr)
  os._exit(130)
