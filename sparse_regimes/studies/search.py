r"""Searches hyper-parameters of a config; the best becomes a config file.

Usage:
  python -m sparse_regimes search --config=cpu_strategy1 --trials=20 \
    --fields=controller.tighten_pct:0.01:0.2:log,controller.drop_tol:0.02:0.3 \
    [--out=runs/sweep] [--minutes=0] [--seed=0] [--config.section.field=value]

A field is ``NAME:LOW:HIGH``, with ``:log`` for equal factors, or
``NAME=A|B|C``. Trials are proposed by optuna's tree-structured Parzen estimator
and pruned when, at an epoch, they are below the median of those before. They
are judged, dense, on what is held out from training, so that the test split is
not tuned on: images by their accuracy (``data.evaluate_on = "validation"``),
text by its loss (windows of ``data.num_validation``), an actor by its return in
episodes of their own.

Everything is kept in a file of the folder: the same command goes on, trials
that were broken off included, and several of them, on machines that share the
folder, search together. Writes ``best.py`` (a config file), ``trials.csv``,
``importance.png`` and ``sweep.html``. Exits as ``compare.py`` does.
"""

import argparse
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
from etils import epath
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from sparse_regimes.errors import InputError
from sparse_regimes.files import lock
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.journal import read_records
from sparse_regimes.runs.pace import format_seconds
from sparse_regimes.runs.workdir import FREE
from sparse_regimes.studies.arms import Run
from sparse_regimes.studies.cli import Parser, check_minutes
from sparse_regimes.studies.queue import (
  Interrupted,
  claim_of,
  last_line,
  signals_seen,
  start,
)
from sparse_regimes.studies.scores import choice_of
from sparse_regimes.studies.search_fields import (
  NOT_SEARCHED,
  Field,
  parse_fields,
)
from sparse_regimes.studies.search_results import finished, write_results

FOLDER = "folder"
# Trials that run to their end before any is pruned.
_STARTUP_TRIALS = 4
_MOST_FAILURES = 5


def held_out(config: Any) -> tuple[list[str], str]:
  """What a trial is judged by that it was not trained on.

  Returns:
    Overrides that hold it out, and its name in a record.

  Raises:
    InputError: if the config holds nothing out.
  """
  name = f"dense_{choice_of(config)}"
  if config.task.name == "reinforcement":
    return [], f"test_{name}"
  if config.task.name == "language":
    if not config.data.num_validation:
      raise InputError(
        "data.num_validation must be above 0 in a search, which judges trials"
        " by the last windows of the training text, got 0"
      )
    return [], f"validation_{name}"
  return ["data.evaluate_on=validation"], f"test_{name}"


class Failure(Exception):  # noqa: N818  # says what it is
  """A trial whose config is refused or whose process ended with an error."""


def ask(
  study: optuna.Study, folder: Path, num_trials: int, seed: int
) -> tuple[Trial, IO[bytes]] | None:
  """The next trial with the right to train it; None if there is none to make.

  One process at a time, so that no trial is taken for dead that was just born.
  """
  with (folder / "search.lock").open("ab") as file:
    lock(file, wait=True)
    alive = 0
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
      name = trial.user_attrs.get(FOLDER)
      claim = claim_of(folder / name) if name else None
      if name and claim is None:
        alive += 1
        continue
      if claim is not None:
        claim.close()
      put_back(study, trial)
    if len(finished(study)) + alive >= num_trials:
      return None
    # Not the draws of another start, or of a process beside this one.
    seeds = np.random.SeedSequence(
      [seed, len(study.get_trials(deepcopy=False))]
    )
    study.sampler = optuna.samplers.TPESampler(
      seed=int(seeds.generate_state(1)[0])
    )
    new = study.ask()
    name = new.user_attrs.get(FOLDER) or f"trial{new.number}"
    # One that was just queued again is about to be let go.
    while (claim := claim_of(folder / name)) is None:
      time.sleep(0.05)
    new.set_user_attr(FOLDER, name)
  return new, claim


def run_trial(
  trial: Trial,
  claim: IO[bytes],
  fields: Sequence[Field],
  arguments: argparse.Namespace,
  overrides: Sequence[str],
  deadline: float,
  seen: Sequence[int],
) -> float | None:
  """Trains a trial; None if it was broken off.

  Raises:
    optuna.TrialPruned: if it is not worth its time.
    Failure: if it cannot be trained.
  """
  values = [f"{field.name}={field.suggest(trial)}" for field in fields]
  log(f"trial {trial.number:<4}  {', '.join(values)}")
  try:
    seed = configs.load(arguments.config, overrides).seed
    run = Run(
      f"trial {trial.number}",
      arguments.config,
      seed,
      arguments.out / trial.user_attrs[FOLDER],
      (*overrides, *values),
    )
    epochs = run.load().train.epochs
    _, judged_by = held_out(run.load())
  except InputError as error:
    raise Failure(str(error)) from error
  child = start(run, claim)
  path = epath.Path(run.workdir) / "metrics.jsonl"
  told, started = 0, time.monotonic()
  try:
    while True:
      ended = child.poll() is not None
      records = read_records(path) if path.exists() else []
      for record in records[told:]:
        told += 1
        value = record[judged_by]
        if value is None:
          raise optuna.TrialPruned  # it diverged
        trial.report(value, told)
        left = (time.monotonic() - started) / told * (epochs - told)
        log(
          f"trial {trial.number:<4}  epoch {told} of {epochs}: {value:.4f},"
          f" about {format_seconds(left)} left"
        )
        if told < epochs and trial.should_prune():
          log(f"trial {trial.number:<4}  pruned")
          raise optuna.TrialPruned
      if len(records) == epochs and ended:
        return records[-1][judged_by]
      if seen or time.monotonic() > deadline:
        return None
      if ended:
        raise Failure(f"it ended with {child.returncode}: {last_line(run)}")
      time.sleep(0.2)
  finally:
    if child.poll() is None:
      child.send_signal(signal.SIGTERM)
      child.wait()


def put_back(study: optuna.Study, trial: FrozenTrial) -> None:
  """Queues a trial again, unless it is; it goes on from its checkpoint."""
  waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
  queued = {other.user_attrs.get(FOLDER) for other in waiting}
  # One that was queued before knows its values before they are asked for.
  values = trial.system_attrs.get("fixed_params", {}) | trial.params
  if values and trial.user_attrs.get(FOLDER) not in queued:
    study.enqueue_trial(values, user_attrs=dict(trial.user_attrs))
  study.tell(trial.number, state=TrialState.FAIL)


def search(argv: Sequence[str] | None = None) -> int:
  """Runs the command."""
  parser = Parser(__doc__)
  parser.add_argument("--config", required=True)
  parser.add_argument("--fields", required=True)
  parser.add_argument("--trials", type=int, default=20)
  parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
  parser.add_argument("--minutes", type=float, default=0.0)
  parser.add_argument("--seed", type=int, default=0, help="of the proposals")
  args, rest = parser.parse_known_args(argv)
  if not 1 <= args.trials <= 100_000:
    raise InputError(f"--trials must be from 1 to 100000, got {args.trials}")
  check_minutes(args.minutes)
  if not 0 <= args.seed < 2**32:
    raise InputError(f"--seed must be from 0 to {2**32 - 1}, got {args.seed}")
  given = configs.parse_overrides(rest)
  if any(override.startswith("data.evaluate_on=") for override in given):
    name = "data.evaluate_on"
    raise InputError(f"{name} {NOT_SEARCHED[name]}")
  own, judged_by = held_out(configs.load(args.config, given))
  overrides = [*own, *given]
  fields = parse_fields(args.fields, args.config, overrides)
  try:
    args.out.mkdir(parents=True, exist_ok=True)
  except (FileExistsError, NotADirectoryError) as error:
    raise InputError(
      f"--out must be a folder, got {args.out}, and a file is in the way"
    ) from error
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = open_study(args, fields, overrides, judged_by)
  deadline = time.monotonic() + (args.minutes * 60 or math.inf)
  failures: list[str] = []
  started, before, waits = time.monotonic(), len(finished(study)), False
  try:
    with signals_seen() as seen:
      while len(finished(study)) < args.trials:
        if seen or time.monotonic() > deadline:
          break
        asked = ask(study, args.out, args.trials, args.seed)
        if asked is None:
          if not waits:
            log("waiting     for other processes, which train the last trials")
          waits = True
          time.sleep(1)
          continue
        trial, claim = asked
        # Until it is told of, nobody may take the trial for dead.
        with claim:
          try:
            value = run_trial(
              trial, claim, fields, args, overrides, deadline, seen
            )
          except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
          except Failure as failure:
            study.tell(trial, state=TrialState.FAIL)
            failures.append(f"trial {trial.number}: {failure}")
            log(f"failed      {failures[-1]}")
            if len(failures) >= _MOST_FAILURES:
              raise RuntimeError(
                f"{len(failures)} trials failed, the last was {failures[-1]}"
              ) from failure
          else:
            if value is None:
              put_back(study, study.get_trials()[trial.number])
              break
            study.tell(trial, value)
        done = len(finished(study))
        pace = (time.monotonic() - started) / max(1, done - before)
        left = format_seconds(pace * max(0, args.trials - done))
        log(f"trials      {done} of {args.trials}, about {left} left")
  finally:
    write_results(study, args.out, args.config, overrides, judged_by)
  if seen:
    raise Interrupted(seen[0])
  log(f"written     trials.csv, best.py, sweep.html in {args.out}")
  return 0 if len(finished(study)) >= args.trials else 4


def log(text: str) -> None:
  """Prints a line at once."""
  print(text, flush=True)


def open_study(
  arguments: argparse.Namespace,
  fields: Sequence[Field],
  overrides: Sequence[str],
  judged_by: str,
) -> optuna.Study:
  """The search in the folder, or a new one.

  Raises:
    InputError: if the folder's is another search, or cannot be read.
  """
  path = arguments.out / "search.log"
  _cut_last_line(path)
  try:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(
      storage=storage,
      study_name="search",
      direction="minimize" if judged_by.endswith("_loss") else "maximize",
      load_if_exists=True,
      pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
    )
  except (ValueError, KeyError, TypeError, OSError) as error:
    raise InputError(
      f"--out: {path} must be a search, but cannot be read"
      f" ({type(error).__name__}: {error}); give another --out"
    ) from error
  config = configs.flatten(configs.load(arguments.config, overrides))
  searched = {field.name for field in fields}
  wanted: dict[str, Any] = {
    "config": {
      name: list(value) if isinstance(value, tuple) else value
      for name, value in config.items()
      if name not in searched and not name.startswith(FREE)
    },
    # As JSON gives it back.
    "fields": [[*field[:5], list(field.choices)] for field in fields],
  }
  known = study.user_attrs.get("search")
  if known is not None and known != wanted:
    differing = [
      name
      for name in sorted({*known["config"], *wanted["config"]})
      if known["config"].get(name) != wanted["config"].get(name)
    ]
    raise InputError(
      f"--out must be a folder without a search or with this one, got"
      f" {arguments.out}, which differs in {', '.join(differing) or '--fields'}"
    )
  study.set_user_attr("search", wanted)
  return study


def _cut_last_line(path: Path) -> None:
  """Drops a line that a killed process did not finish."""
  if not path.exists():
    return
  with (path.parent / "search.lock").open("ab") as file:
    lock(file, wait=True)
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
      os.truncate(path, content.rfind(b"\n") + 1)
