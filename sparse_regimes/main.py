"""The command line: ``python -m sparse_regimes COMMAND``, ``sparse-regimes``.

Commands on a run: train, eval, measure, calibrate, generate, report. On many:
compare, search, table, flat_minima, match_budgets. On this installation: list,
doctor. Each tells with --help what it takes.
"""

import argparse
import importlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import jax
from absl import logging
from etils import epath

from sparse_regimes import __version__, interrupts
from sparse_regimes.commands import show
from sparse_regimes.commands.calibrate import calibrate_runs
from sparse_regimes.commands.evaluate import parse_keep_ratios, sweep_runs
from sparse_regimes.commands.generate import generate_text
from sparse_regimes.commands.measure import measure_run
from sparse_regimes.commands.train import NotFinite, train
from sparse_regimes.errors import InputError, one_of
from sparse_regimes.files import expanded, is_remote
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import processes
from sparse_regimes.runs.stopping import Stopped
from sparse_regimes.runs.summary import describe_summary
from sparse_regimes.runs.workdir import (
  CONFIG_FILE,
  check_workdir,
  free_workdir,
  fresh_workdir,
)
from sparse_regimes.studies.cli import exit_code


def _folder(text: str) -> epath.Path:
  if is_remote(epath.Path(text)):
    return epath.Path(text)
  try:
    return epath.Path(expanded(text, "it"))
  except InputError as error:
    raise argparse.ArgumentTypeError(str(error)) from error


def _folders(text: str) -> list[epath.Path]:
  return [_folder(path) for path in text.split(",")]


MODES = ("train", "eval", "measure", "calibrate", "generate", "report")
# Each in a file of its name, with a function of its name.
STUDIES = ("compare", "search", "table", "flat_minima", "match_budgets")
SHOWN = {"list": show.named, "doctor": show.checked}


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    raise InputError(message)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command.

  Args:
    argv: the arguments; None for those of the process.

  Returns:
    0; 1 if a file could not be written; 2 for bad input; 3 if a loss or
    gradient was not finite; 130 if interrupted and 143 if terminated, with the
    state saved: the same command goes on from there.
  """
  interrupts.from_now_on()
  argv = [*(sys.argv[1:] if argv is None else argv)]
  if argv and not argv[0].startswith("-"):
    command, *rest = argv
    try:
      one_of("COMMAND", command, (*MODES, *STUDIES, *SHOWN))
    except ValueError as error:
      print(f"error: {error}", file=sys.stderr)
      return 2
    if command in STUDIES:
      return _study(command, rest)
    if command in SHOWN:
      return _show(command, rest)
    argv = [*rest, f"--mode={command}"]
  parser = _Parser(
    prog="sparse-regimes",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="Any field of the config can be set: --config.train.epochs=2",
    allow_abbrev=False,
  )
  parser.add_argument("--config", help="a config file, or a shipped one's name")
  parser.add_argument(
    "--workdir", type=_folder, help="the run's folder; a run there goes on"
  )
  parser.add_argument(
    "--force_new", action="store_true", help="start afresh in a new folder"
  )
  parser.add_argument(
    "--print_config", action="store_true", help="every field, and end"
  )
  parser.add_argument(
    "--version", action="version", version=f"sparse_regimes {__version__}"
  )
  parser.add_argument(
    "--quiet", action="store_true", help="train: print errors alone"
  )
  parser.add_argument("--mode", choices=MODES, default="train")
  parser.add_argument(
    "--keep_ratios",
    default="1.0,0.5,0.2,0.1",
    help="eval, generate: numbers, or LOWEST:HIGHEST:COUNT in equal factors",
  )
  parser.add_argument(
    "--against",
    default=[],
    type=_folders,
    help="eval, calibrate: more runs, by commas",
  )
  parser.add_argument(
    "--checkpoint",
    default="best",
    help="eval, calibrate, generate: best or last",
  )
  parser.add_argument(
    "--calibration",
    type=_folder,
    help="eval: a calibration.json, whose thresholds take the masks' place",
  )
  calibrating = parser.add_argument_group(
    "calibrate", "thresholds for a network that was trained without them"
  )
  calibrating.add_argument(
    "--target", type=float, default=0.5, help="sparsity that they are for"
  )
  calibrating.add_argument(
    "--num_examples", type=int, default=256, help="of the training set"
  )
  calibrating.add_argument(
    "--activation", help="one to try in place of the network's"
  )
  generating = parser.add_argument_group(
    "generate", "text of a language model, at each of the --keep_ratios"
  )
  generating.add_argument(
    "--prompt", help="what it begins with, by default a new line"
  )
  generating.add_argument("--num_tokens", type=int, default=300)
  generating.add_argument(
    "--temperature", type=float, default=0.8, help="0: the likeliest"
  )
  generating.add_argument("--draw_seed", type=int, default=0)
  generating.add_argument(
    "--gather", action="store_true", help="read weights of what is kept alone"
  )
  parser.add_argument(
    "--num_images", type=int, default=256, help="measure: of either split"
  )
  parser.add_argument(
    "--hessian_samples",
    type=int,
    default=16,
    help="measure: for its trace after the last epoch",
  )
  processes_group = parser.add_argument_group(
    "several processes", "found by themselves on Cloud TPU"
  )
  processes_group.add_argument("--coordinator", help="host:port of process 0")
  processes_group.add_argument("--num_processes", type=int)
  processes_group.add_argument("--process_id", type=int, help="from 0")
  # The search's rule for devices is an address in a program, another one in the
  # next process: with it a compilation cache would find nothing again.
  jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)
  # Orbax logs the tracebacks of what is reported below in a line.
  logging.set_verbosity(logging.FATAL)
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
  except NotFinite as error:
    print(f"error: {error}", file=sys.stderr)
    return 3
  except Stopped as stopped:
    notes = getattr(stopped, "__notes__", [])
    print("; ".join([f"stopped by {stopped}", *notes]), file=sys.stderr)
    return stopped.exit_code
  except KeyboardInterrupt:
    print("stopped by SIGINT", file=sys.stderr)
    return 130
  return 0


def _run(args: argparse.Namespace, overrides: Sequence[str]) -> None:
  if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
    raise InputError(
      "JAX_DISABLE_JIT must be off, got on: a run compiles its steps before it"
      " starts; to step through one, call"
      " sparse_regimes.make_train_step(..., jit=False)"
    )
  if args.mode != "train" and args.workdir is None:
    raise InputError(
      f"--workdir must be given: the folder of the run to {args.mode}"
    )
  if args.mode == "report":
    # Drawing is slow to import, and training may do without.
    from sparse_regimes.reports.run_page import write_report

    print(f"written     {write_report(args.workdir)}")
    return
  if args.mode == "measure":
    measure_run(
      args.workdir,
      overrides,
      num_images=args.num_images,
      hessian_samples=args.hessian_samples,
    )
    return
  if args.mode == "calibrate":
    calibrate_runs(
      [args.workdir, *args.against],
      overrides,
      args.checkpoint,
      target=args.target,
      num_examples=args.num_examples,
      activation=args.activation,
    )
    return
  ratios = parse_keep_ratios(args.keep_ratios)
  if args.mode == "generate":
    generate_text(
      *(args.workdir, overrides, ratios, args.checkpoint),
      prompt=args.prompt,
      num_tokens=args.num_tokens,
      temperature=args.temperature,
      seed=args.draw_seed,
      gather=args.gather,
    )
    return
  if args.mode == "eval":
    sweep_runs(
      [args.workdir, *args.against],
      overrides,
      ratios,
      args.checkpoint,
      calibration=args.calibration,
    )
    return
  if args.config is None:
    raise InputError(
      "--config must be given, such as --config=quickstart; `list` shows the"
      " others, --help all arguments"
    )
  if args.print_config:
    for field, value in configs.flatten(
      configs.load(args.config, overrides)
    ).items():
      print(f"{field} = {value!r}")
    return
  processes.initialize(args.coordinator, args.num_processes, args.process_id)
  with processes.all_or_none():
    config = configs.load(args.config, overrides)

  def choose_workdir() -> str:
    workdir = args.workdir or fresh_workdir(Path(args.config).stem)
    if args.force_new:
      workdir = free_workdir(workdir)
    check_workdir(workdir, config)
    return os.fspath(workdir)

  processes.check_same("--config", str(config))
  # Of several processes the first decides, and is the one that speaks.
  workdir = epath.Path(processes.on_first(choose_workdir))
  log = print if processes.is_first() and not args.quiet else _nothing
  log(f"run folder  {workdir}")
  with processes.named_if_lost():
    try:
      result = train(config, workdir, log)
    except Stopped as stopped:
      if (workdir / CONFIG_FILE).exists():
        with_it = shlex.quote(f"--workdir={workdir}")
        stopped.add_note(f"the same command with {with_it} goes on")
      raise
  log(describe_summary(result, workdir))
  processes.shut_down()


def _nothing(line: str) -> None:
  """A log that is not wanted."""


def _study(command: str, arguments: Sequence[str]) -> int:
  """Imports what the command needs, which the others do not."""
  try:
    module = importlib.import_module(f"sparse_regimes.studies.{command}")
  except ModuleNotFoundError as error:
    print(
      f"error: {command} needs {error.name}: pip install"
      f" 'sparse_regimes[{command}]'",
      file=sys.stderr,
    )
    return 2
  return exit_code(lambda: getattr(module, command)(arguments))


def _show(command: str, arguments: Sequence[str]) -> int:
  if arguments:
    print(
      f"error: {command} takes no arguments, got {arguments[0]}",
      file=sys.stderr,
    )
    return 2
  try:
    for line in SHOWN[command]():
      print(line)
  except BrokenPipeError:  # as of `list | head`
    return 1
  return 0


def leave() -> NoReturn:
  """Runs the command line and ends the process."""
  # A file shows each line when it is written, as a terminal does.
  if isinstance(sys.stdout, io.TextIOWrapper):
    # What it has no sign for is told by another one.
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
  code = main()
  try:
    sys.stdout.flush()
  finally:
    # Not sys.exit: a compilation that was interrupted crashes the interpreter
    # while it shuts down.
    os._exit(code)


if __name__ == "__main__":
  leave()
