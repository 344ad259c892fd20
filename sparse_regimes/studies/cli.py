"""What the command lines of studies share."""

import argparse
import csv
import io
import math
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import jax

from sparse_regimes.errors import InputError
from sparse_regimes.studies.queue import Interrupted


class Parser(argparse.ArgumentParser):
  """Raises an ``InputError`` instead of leaving."""

  def __init__(self, description: str | None):
    super().__init__(
      description=description,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
    )

  def error(self, message: str) -> NoReturn:
    """Called by argparse."""
    raise InputError(message)


def check_minutes(minutes: float) -> None:
  """Raises an ``InputError`` unless it is a time or 0."""
  if not 0 <= minutes < math.inf:
    raise InputError(f"--minutes must be at least 0, got {minutes}")


def check_jobs(jobs: int) -> None:
  """Raises an ``InputError`` unless so many runs can be trained at a time."""
  if not 1 <= jobs <= 1000:
    raise InputError(f"--jobs must be from 1 to 1000, got {jobs}")


def typed(command: str, argv: Sequence[str] | None) -> str:
  """The command as it can be given again."""
  return shlex.join(
    [
      *("python", "-m", "sparse_regimes", command),
      *(sys.argv[2:] if argv is None else argv),
    ]
  )


def markdown(names: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
  """A table."""
  lines = [names, ["---"] * len(names), *cells]
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
  """The same as a CSV file."""
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows(rows)
  return text.getvalue()


def state(done: int, total: int) -> str:
  """How much of it is there."""
  text = f"{done} of {total} runs finished"
  return text if done == total else f"PARTIAL: {text}"


def exit_code(command: Callable[[], int]) -> int:
  """Runs a command; what went wrong is a line and a code."""
  # Only one process can have a TPU: it is for those that train.
  jax.config.update("jax_platforms", "cpu")
  try:
    return command()
  except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except (RuntimeError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print("stopped by SIGINT; the same command goes on", file=sys.stderr)
    return 130
  except Interrupted as interrupted:
    print(
      f"stopped by {interrupted}; the same command goes on", file=sys.stderr
    )
    return interrupted.exit_code
