r"""Searches hyper-parameters of a config; the best becomes a config file.

Usage:
  python experiments/sweep.py --config=cpu_strategy1 --trials=20 \
    --fields=controller.tighten_pct:0.01:0.2:log,controller.drop_tol:0.02:0.3 \
    [--out=runs/sweep] [--minutes=0] [--seed=0] [--config.section.field=value]

A field is ``NAME:LOW:HIGH``, with ``:log`` for equal factors, or
``NAME=A|B|C``. Trials are proposed by optuna's tree-structured Parzen estimator
and pruned when, at an epoch, they are below the median of those before. They
are judged by dense accuracy on training images held out from training
(``data.evaluate_on = "validation"``), so that the test split is not tuned on.

Everything is kept in a file of the folder: the same command goes on, trials
that were broken off included, and several of them, on machines that share the
folder, search together. Writes ``best.py`` (a config file), ``trials.csv``,
``importance.png`` and ``sweep.html``. Exits as ``compare.py`` does.
"""

import argparse
import csv
import io
import math
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import matplotlib.figure
import optuna
from compare import exit_code
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from run_queue import Interrupted, Run, signals_seen, start

from sparse_regimes import config as configs
from sparse_regimes import figures
from sparse_regimes.errors import InputError
from sparse_regimes.files import write
from sparse_regimes.journal import read_records
from sparse_regimes.pace import format_seconds
from sparse_regimes.page import Pictures, Pre, Table, Text, render
from sparse_regimes.workdir import in_use

FOLDER = "folder"
_RANGE = re.compile(r"([\w.]+):([^:]+):([^:]+?)(:log)?")
_CHOICE = re.compile(r"([\w.]+)=(.+)")
# Trials that run to their end before any is pruned.
_STARTUP_TRIALS = 4


class Field(NamedTuple):
  """What is searched.

  Attributes:
    name: ``section.field``.
    low: of a range.
    high: of it.
    log: whether it is searched in equal factors.
    whole: whether it is a range of integers.
    choices: instead of a range.
  """

  name: str
  low: float = 0.0
  high: float = 0.0
  log: bool = False
  whole: bool = False
  choices: tuple[str, ...] = ()

  def suggest(self, trial: Trial) -> Any:
    """A value for a trial."""
    if self.choices:
      return trial.suggest_categorical(self.name, self.choices)
    if self.whole:
      low, high = int(self.low), int(self.high)
      return trial.suggest_int(self.name, low, high, log=self.log)
    return trial.suggest_float(self.name, self.low, self.high, log=self.log)


def parse_fields(
  text: str, config: str, overrides: Sequence[str]
) -> list[Field]:
  """Reads ``--fields`` and tries the ends of every range on the config."""
  defaults = configs.flatten(configs.load(config, overrides))
  fields = []
  for part in text.split(","):
    if match := _CHOICE.fullmatch(part):
      name, choices = match[1], tuple(match[2].split("|"))
      field = Field(name, choices=choices)
      tried: Sequence[Any] = choices
    elif match := _RANGE.fullmatch(part):
      name, log = match[1], bool(match[4])
      try:
        low, high = float(match[2]), float(match[3])
      except ValueError:
        low = high = math.nan
      if not (
        math.isfinite(low) and low < high < math.inf and (low > 0 or not log)
      ):
        raise InputError(
          f"--fields: {part} must have LOW below HIGH, and above 0 with :log"
        )
      whole = type(defaults.get(name)) is int
      field = Field(name, low, high, log, whole)
      tried = [int(v) if whole else v for v in (low, high)]
    else:
      raise InputError(
        f"--fields must be NAME:LOW:HIGH[:log] or NAME=A|B|C, got {part!r}"
      )
    if name not in defaults or type(defaults[name]) is tuple:
      raise InputError(f"--fields: {config} has no number or name {name!r}")
    for value in tried:
      configs.load(config, [*overrides, f"{name}={value}"])
    fields.append(field)
  return fields


def run_trial(
  trial: Trial,
  fields: Sequence[Field],
  arguments: argparse.Namespace,
  overrides: Sequence[str],
  deadline: float,
  seen: Sequence[int],
) -> float | None:
  """Trains a trial; None if it was broken off.

  Raises:
    optuna.TrialPruned: if it is not worth its time.
  """
  values = [f"{field.name}={field.suggest(trial)}" for field in fields]
  folder = trial.user_attrs.get(FOLDER) or f"trial{trial.number}"
  trial.set_user_attr(FOLDER, folder)
  run = Run(
    f"trial {trial.number}",
    arguments.config,
    configs.load(arguments.config, overrides).seed,
    arguments.out / folder,
    (*overrides, *values),
  )
  epochs = run.load().train.epochs
  print(f"trial {trial.number:<4}  {', '.join(values)}", flush=True)
  child = start(run)
  log = epath.Path(run.workdir) / "metrics.jsonl"
  told = 0
  try:
    while True:
      ended = child.poll() is not None
      records = read_records(log) if log.exists() else []
      for record in records[told:]:
        told += 1
        value = record["test_dense_accuracy"]
        if value is None:
          raise optuna.TrialPruned
        trial.report(value, told)
        if told < epochs and trial.should_prune():
          print(f"trial {trial.number:<4}  pruned after epoch {told}, {value}")
          raise optuna.TrialPruned
      if len(records) == epochs and ended:
        return records[-1]["test_dense_accuracy"]
      if seen or time.monotonic() > deadline:
        return None
      if ended:
        text = run.workdir.with_suffix(".log").read_text().strip()
        raise RuntimeError(
          f"trial {trial.number} ended with {child.returncode}:"
          f" {text.splitlines()[-1] if text else 'it printed nothing'}"
        )
      time.sleep(0.2)
  finally:
    if child.poll() is None:
      child.send_signal(signal.SIGTERM)
      child.wait()


def take_up(study: optuna.Study, folder: Path) -> None:
  """Queues again what a process that is gone was training."""
  for trial in study.get_trials(states=(TrialState.RUNNING,)):
    name = trial.user_attrs.get(FOLDER)
    if name is None or not in_use(epath.Path(folder / name)):
      put_back(study, trial)


def put_back(study: optuna.Study, trial: FrozenTrial | Trial) -> None:
  """Queues a trial again; it goes on from its checkpoint."""
  study.enqueue_trial(trial.params, user_attrs=dict(trial.user_attrs))
  study.tell(trial.number, state=TrialState.FAIL)


def write_all(
  study: optuna.Study, arguments: argparse.Namespace, overrides: Sequence[str]
) -> None:
  """Writes what is known so far."""
  out = epath.Path(arguments.out)
  trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
  names = sorted({name for trial in trials for name in trial.params})
  header = ["trial", "state", "accuracy", "epochs", *names]
  rows = [
    [
      *(str(trial.number), trial.state.name.lower()),
      "" if trial.value is None else f"{trial.value:.4f}",
      str(max(trial.intermediate_values, default=0)),
      *(f"{trial.params[name]}" for name in names),
    ]
    for trial in trials
  ]
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows([header, *rows])
  write(out / "trials.csv", text.getvalue())
  complete = [t for t in trials if t.state == TrialState.COMPLETE]
  if not complete:
    return
  best = study.best_trial
  values = [f"{name}={value}" for name, value in best.params.items()]
  chosen = configs.load(
    arguments.config,
    [*(o for o in overrides if not o.startswith("data.evaluate_on")), *values],
  )
  chosen.data.evaluate_on = "test"
  claim = (
    f"best of {len(trials)} trials, {best.value:.4f} dense accuracy on held-out"
    f" training images in trial {best.number} of {arguments.out}."
  )
  write(out / "best.py", configs.as_file(chosen, "best", claim))
  picture = figures.png(search_figure(study, complete, names), 110)
  write(out / "importance.png", picture)
  page = render(
    f"Search around {arguments.config}",
    f"{len(complete)} trials finished, {len(trials) - len(complete)} pruned",
    {
      "Best": [Text(claim), Pre("\n".join(values))],
      "Search": [
        Pictures(
          [picture],
          "Accuracy of finished trials over each field, and how much of it the"
          " field explains (PED-ANOVA).",
        )
      ],
      "Trials": [Table(header, rows)],
    },
  )
  write(out / "sweep.html", page)
  print(f"best        {best.value:.4f} with {', '.join(values)}")


def search_figure(
  study: optuna.Study, trials: Sequence[FrozenTrial], names: Sequence[str]
) -> matplotlib.figure.Figure:
  """Accuracy over each field, and the fields' importance."""
  figure = matplotlib.figure.Figure(
    figsize=(3.2 * (len(names) + 1), 3.4), layout="constrained"
  )
  FigureCanvasAgg(figure)
  axes = figure.subplots(1, len(names) + 1)
  for ax, name in zip(axes, names, strict=False):
    at = [t.params[name] for t in trials]
    ax.plot(at, [t.value or 0.0 for t in trials], "o", color="#1b4965")
    distribution = trials[-1].distributions[name]
    if getattr(distribution, "log", False):
      ax.set_xscale("log")
    ax.set_xlabel(name)
    ax.grid(alpha=0.3)
  axes[0].set_ylabel("accuracy, held-out images")
  importance = importances(study)
  axes[-1].barh(list(importance), list(importance.values()), color="#2a7f62")
  axes[-1].set_xlabel("importance")
  return figure


def importances(study: optuna.Study) -> dict[str, float]:
  """Of the fields; empty while too few trials are finished to say."""
  evaluator = optuna.importance.PedAnovaImportanceEvaluator()
  try:
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
  except (ValueError, RuntimeError):
    return {}


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    raise InputError(message)


def sweep(argv: Sequence[str] | None = None) -> int:
  """Runs the command."""
  parser = _Parser(
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("--config", required=True)
  parser.add_argument("--fields", required=True)
  parser.add_argument("--trials", type=int, default=20)
  parser.add_argument("--out", type=Path, default=Path("runs/sweep"))
  parser.add_argument("--minutes", type=float, default=0.0)
  parser.add_argument("--seed", type=int, default=0, help="of the proposals")
  args, rest = parser.parse_known_args(argv)
  if not 1 <= args.trials <= 100_000:
    raise InputError(f"--trials must be from 1 to 100000, got {args.trials}")
  if not 0 <= args.minutes < math.inf:
    raise InputError(f"--minutes must be at least 0, got {args.minutes}")
  overrides = ["data.evaluate_on=validation", *configs.parse_overrides(rest)]
  fields = parse_fields(args.fields, args.config, overrides)
  args.out.mkdir(parents=True, exist_ok=True)
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = open_study(args, fields)
  deadline = time.monotonic() + (args.minutes * 60 or math.inf)
  started, made = time.monotonic(), 0
  with signals_seen() as seen:
    take_up(study, args.out)
    while True:
      done = len(finished(study))
      if done >= args.trials or seen or time.monotonic() > deadline:
        break
      if made:
        left = (time.monotonic() - started) / made * (args.trials - done)
        print(
          f"trials      {done} of {args.trials},"
          f" about {format_seconds(left)} left"
        )
      trial = study.ask()
      try:
        value = run_trial(trial, fields, args, overrides, deadline, seen)
      except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
      else:
        if value is None:
          put_back(study, trial)
          break
        print(f"trial {trial.number:<4}  {value:.4f}")
        study.tell(trial, value)
      made += 1
  write_all(study, args, overrides)
  if seen:
    raise Interrupted(seen[0])
  print(f"written     trials.csv, best.py, sweep.html in {args.out}")
  return 0 if len(finished(study)) >= args.trials else 4


def finished(study: optuna.Study) -> list[FrozenTrial]:
  """Trials that need no more time."""
  return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def open_study(
  arguments: argparse.Namespace, fields: Sequence[Field]
) -> optuna.Study:
  """The search in the folder, or a new one.

  Raises:
    InputError: if the folder's is of other fields, or cannot be read.
  """
  path = arguments.out / "search.log"
  backend = JournalFileBackend(str(path))
  try:
    study = optuna.create_study(
      storage=optuna.storages.JournalStorage(backend),
      study_name="search",
      direction="maximize",
      load_if_exists=True,
      sampler=optuna.samplers.TPESampler(seed=arguments.seed or None),
      pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
    )
  except (ValueError, KeyError, OSError) as error:
    raise InputError(
      f"--out: {path} must be a search, but cannot be read"
      f" ({type(error).__name__}: {error})"
    ) from error
  wanted = {
    "config": arguments.config,
    # As JSON gives it back.
    "fields": [[*field[:5], list(field.choices)] for field in fields],
  }
  known = study.user_attrs.get("search")
  if known is not None and known != wanted:
    raise InputError(
      f"--out must be a folder without a search, or one of these --fields, got"
      f" {arguments.out}, with {known['config']} and"
      f" {', '.join(field[0] for field in known['fields'])}"
    )
  study.set_user_attr("search", wanted)
  return study


if __name__ == "__main__":
  sys.exit(exit_code(sweep))
