"""Command line: train a config, or evaluate a run at chosen keep ratios."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sparse_regimes import config as configs
from sparse_regimes.errors import InputError
from sparse_regimes.evaluate import evaluate_run
from sparse_regimes.summary import describe_summary
from sparse_regimes.train import train
from sparse_regimes.workdir import CONFIG_FILE, check_workdir, fresh_workdir


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    raise InputError(message)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command.

  Args:
    argv: the arguments; None for those of the process.

  Returns:
    0; 1 if a file could not be written; 2 for bad input; 130 if interrupted.
  """
  parser = _Parser(
    prog="python -m sparse_regimes.main",
    description=__doc__,
    epilog="Any field of the config can be set: --config.train.epochs=2",
    allow_abbrev=False,
  )
  parser.add_argument("--config", help="a config file, or a shipped one's name")
  parser.add_argument("--workdir", type=Path, help="the run's folder")
  parser.add_argument("--mode", choices=("train", "eval"), default="train")
  parser.add_argument("--keep_ratios", default="1.0,0.5,0.2,0.1", help="eval")
  parser.add_argument("--checkpoint", default="best", help="eval: best or last")
  try:
    args, rest = parser.parse_known_args(argv)
    _run(args, configs.parse_overrides(rest))
  except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except BrokenPipeError:
    return 1
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print("interrupted: finished epochs are in the run folder", file=sys.stderr)
    return 130
  return 0


def _run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
  if args.mode == "eval":
    if args.workdir is None or not (args.workdir / CONFIG_FILE).is_file():
      raise InputError(f"--workdir must hold a run, got {args.workdir}")
    ratios = configs.parse_keep_ratios(args.keep_ratios)
    config = configs.load(str(args.workdir / CONFIG_FILE), overrides)
    print(evaluate_run(config, args.workdir, ratios, args.checkpoint))
    return
  if args.config is None:
    raise InputError("--config must be a config file, got nothing")
  config = configs.load(args.config, overrides)
  workdir = args.workdir or fresh_workdir(Path(args.config).stem)
  check_workdir(workdir)
  print(f"run folder  {workdir}", flush=True)
  print(describe_summary(train(config, workdir), workdir))


if __name__ == "__main__":
  code = main()
  try:
    sys.stdout.flush()
  finally:
    # Not sys.exit: a compilation that was interrupted crashes the interpreter
    # while it shuts down.
    os._exit(code)
