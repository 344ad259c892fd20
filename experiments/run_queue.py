"""Many runs, one after another or side by side, whatever interrupts them."""

import contextlib
import fcntl
import functools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from etils import epath

from sparse_regimes import config as configs
from sparse_regimes.errors import InputError
from sparse_regimes.journal import read_records
from sparse_regimes.pace import format_seconds
from sparse_regimes.workdir import (
  CONFIG_FILE,
  check_same,
  check_workdir,
  in_use,
)

_SECONDS_BETWEEN_LINES = 30.0
_NUMBER = (float, int)
# What tables take from a run's summary.
_SUMMARY: dict[str, tuple[type, ...]] = {
  "epochs": (int,),
  "seed": (int,),
  "diverged": (bool,),
  "resets": (int,),
  "collapses": (list,),
  "device": (str,),
  "host": (str,),
  "versions": (dict,),
  "final_test_dense_accuracy": _NUMBER,
  "final_test_sparse_accuracy": _NUMBER,
  "best_test_dense_accuracy": _NUMBER,
  "final_train_dense_accuracy": _NUMBER,
  "lowest_keep_ratio": _NUMBER,
  "skippable_share_dense": _NUMBER,
  "skippable_share_sparse": _NUMBER,
  "images_per_second": _NUMBER,
  "seconds": _NUMBER,
}
_SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Run(NamedTuple):
  """One config with one seed.

  Attributes:
    arm: what it is called.
    config: a config file or the name of a shipped one.
    seed: of the run.
    workdir: its folder; what it prints goes to ``WORKDIR.log``.
    overrides: ``section.field=value`` each.
  """

  arm: str
  config: str
  seed: int
  workdir: Path
  overrides: Sequence[str] = ()

  @property
  def all_overrides(self) -> list[str]:
    """With the seed."""
    return [*self.overrides, f"seed={self.seed}"]

  def load(self) -> Any:
    """The complete config."""
    return _load(self.config, tuple(self.all_overrides))

  def summary(self) -> dict[str, Any] | None:
    """What the finished run came to; None if it is not finished.

    One that diverged is, unless it is to go on from there.

    Raises:
      InputError: if its summary cannot be read, or is of another config.
    """
    path = self.workdir / "summary.json"
    try:
      summary = json.loads(path.read_bytes())
      _check_summary(summary)
    except (FileNotFoundError, NotADirectoryError):
      return None
    except (OSError, ValueError, RecursionError) as error:
      raise InputError(
        f"{path} must be a run's summary, but cannot be read"
        f" ({type(error).__name__}: {error}); delete it and the run writes it"
        " again"
      ) from error
    wanted = self.load()
    if (self.workdir / CONFIG_FILE).exists():
      check_same(epath.Path(self.workdir), wanted)
    if summary["diverged"]:
      ended = wanted.train.on_nonfinite == "stop"
    else:
      ended = summary["epochs"] == wanted.train.epochs
    return summary if ended and summary["seed"] == self.seed else None

  def epochs_done(self) -> int:
    """As far as its log tells."""
    path = epath.Path(self.workdir) / "metrics.jsonl"
    return len(read_records(path)) if path.exists() else 0


@functools.cache
def _load(config: str, overrides: tuple[str, ...]) -> Any:
  return configs.load(config, overrides)


def _check_summary(summary: Any) -> None:
  if not isinstance(summary, dict):
    raise ValueError("it is not a JSON object")
  # Before there was such a thing, a run that diverged left no summary.
  summary.setdefault("diverged", False)
  for name, kinds in _SUMMARY.items():
    value = summary.get(name)
    unknown = summary.get("epochs") == 0 or name == "images_per_second"
    if value is None and kinds is _NUMBER and unknown:
      # It diverged before an evaluation, or trained no epoch in one go.
      summary[name] = math.nan
    elif type(value) not in kinds or (
      isinstance(value, float) and not math.isfinite(value)
    ):
      raise ValueError(f"{name} must be {kinds[0].__name__}, got {value!r}")


def parse_seeds(text: str) -> list[int]:
  """Reads a number of seeds, ``5``, or the seeds themselves, ``3,5,8``.

  Example:
    >>> parse_seeds("3"), parse_seeds("7,9"), parse_seeds("4,")
    ([0, 1, 2], [7, 9], [4])
  """
  if not re.fullmatch(r"\d{1,9}(,\d{1,9})*,?", text):
    raise InputError(
      f"--seeds must be a number of seeds or seeds by commas, got {text!r}"
    )
  seeds = [int(part) for part in text.split(",") if part]
  if "," not in text:
    # A date meant as one seed must not become a list of as many.
    seeds = list(range(min(seeds[0], 1001)))
  if not 0 < len(set(seeds)) == len(seeds) <= 1000:
    raise InputError(
      f"--seeds must be 1 to 1000 different seeds, got {text!r}; a single seed"
      " ends with a comma"
    )
  return seeds


def make_runs(
  arms: Sequence[str],
  seeds: Sequence[int],
  folder: Path,
  overrides: Sequence[str],
) -> list[Run]:
  """All pairs, the seeds one after another, below ``folder/ARM/seedN``.

  Args:
    arms: configs, each with overrides of its own:
      ``collapse+optimizer.clip_norm=1.0``.
    seeds: of each.
    folder: of them all.
    overrides: of every run.

  Raises:
    InputError: for arms of different data or epochs, an arm given twice, or a
      folder that has something else.
  """
  runs = []
  for seed in seeds:
    for arm in arms:
      config, *own = arm.split("+")
      for override in own:
        if not override or override.startswith(("seed=", "data.dir=")):
          raise InputError(
            "--configs takes CONFIG+section.field=value, without seed and"
            f" data.dir, got {arm!r}"
          )
      name = "+".join([Path(config).stem, *own])
      workdir = folder / name / f"seed{seed}"
      runs.append(Run(name, config, seed, workdir, (*overrides, *own)))
  if len({run.workdir for run in runs}) < len(runs):
    raise InputError(
      f"--configs must have different names, got {', '.join(arms)}"
    )
  expected: dict[str, Any] = {}
  for run in runs:
    config = run.load()
    for field, value in {
      **{f"data.{name}": config.data[name] for name in config.data},
      "eval.num_train": config.eval.num_train,
      "train.epochs": config.train.epochs,
    }.items():
      if field != "data.dir" and expected.setdefault(field, value) != value:
        raise InputError(
          f"--configs must agree in {field}, got {expected[field]!r} in"
          f" {runs[0].arm} and {value!r} in {run.arm}"
        )
    if folder.exists() and not folder.is_dir():
      raise InputError(f"--out must be a folder, got {folder}, a file")
    workdir = epath.Path(run.workdir)
    if not in_use(workdir):
      check_workdir(workdir, config)
    elif (workdir / CONFIG_FILE).exists():
      check_same(workdir, config)
  return runs


class Interrupted(BaseException):
  """A signal came; every run that went on has saved its state."""

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.exit_code = 128 + number


def train_all(
  runs: Sequence[Run],
  *,
  jobs: int = 1,
  minutes: float = 0.0,
  log: Callable[[str], None] = print,
) -> bool:
  """Trains what is not finished, each run in a process of its own.

  What is finished is left, what was interrupted goes on, and what another
  process is training is waited for.

  Args:
    runs: in their order.
    jobs: how many at a time; each gets its share of the processors.
    minutes: after which the runs save their states and stop; 0 is never.
    log: takes a line at a time.

  Returns:
    Whether all are finished.

  Raises:
    Interrupted: on SIGINT or SIGTERM.
    RuntimeError: if a run ended with an error.
  """
  started = time.monotonic()
  waiting = [run for run in runs if run.summary() is None]
  log(f"runs        {len(runs) - len(waiting)} of {len(runs)} finished before")
  total = sum(run.load().train.epochs for run in waiting)
  before = sum(run.epochs_done() for run in waiting)
  progress = _Progress(waiting, total, before, log)
  children: dict[int, tuple[Run, subprocess.Popen]] = {}
  failed: list[str] = []
  with signals_seen() as signals:
    try:
      while waiting or children:
        late = 0 < minutes * 60 <= time.monotonic() - started
        if signals or late:
          break
        if not children:
          waiting = [run for run in waiting if run.summary() is None]
        for slot in set(range(jobs)) - set(children):
          run, claim = _next(waiting)
          if run is None or claim is None:
            break
          waiting.remove(run)
          children[slot] = run, start(run, claim, slot, jobs)
          log(f"start       {run.arm} seed {run.seed} in {run.workdir}")
        # What is left may be trained by others.
        time.sleep(0.5)
        for slot, (run, child) in list(children.items()):
          if child.poll() is None:
            continue
          del children[slot]
          # One that diverged has a summary, and counts.
          if child.returncode and run.summary() is None:
            failed.append(_failure(run, child.returncode))
            log(f"failed      {failed[-1]}")
        progress.tell([run for run, _ in children.values()] or waiting)
    finally:
      # They save their states, as a signal tells them to.
      for _, child in children.values():
        child.send_signal(signal.SIGTERM)
      for _, child in children.values():
        child.wait()
  if signals:
    raise Interrupted(signals[0])
  if failed:
    raise RuntimeError(
      f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}; the same"
      " command goes on with the others"
    )
  return all(run.summary() is not None for run in runs)


class _Progress:
  """A line now and then, with the time that is left."""

  def __init__(
    self,
    runs: Sequence[Run],
    total: int,
    before: int,
    log: Callable[[str], None],
  ):
    self._runs, self._total, self._before = list(runs), total, before
    self._log = log
    self._started = self._told = time.monotonic()

  def tell(self, running: Sequence[Run]) -> None:
    now = time.monotonic()
    if now - self._told < _SECONDS_BETWEEN_LINES:
      return
    self._told = now
    done = sum(run.epochs_done() for run in self._runs)
    here = ", ".join(
      f"{run.arm} seed {run.seed} epoch {run.epochs_done()}" for run in running
    )
    left = ""
    if done > self._before:
      pace = (now - self._started) / (done - self._before)
      left = f", about {format_seconds(pace * (self._total - done))} left"
    self._log(f"epochs      {done} of {self._total}{left} ({here})")


def _next(waiting: Sequence[Run]) -> tuple[Run | None, IO[bytes] | None]:
  """The first run that nobody trains and nobody has finished, claimed."""
  for run in waiting:
    claim = claim_of(run.workdir)
    if claim is None:
      continue
    if run.summary() is None and not in_use(epath.Path(run.workdir)):
      return run, claim
    claim.close()
  return None, None


def claim_of(workdir: Path) -> IO[bytes] | None:
  """The right to train a run, until the file is closed; None if another has it.

  A run takes its own lock only once JAX is there. A child inherits the claim,
  so that it outlives its parent.
  """
  path = workdir.with_suffix(".claim")
  path.parent.mkdir(parents=True, exist_ok=True)
  file = path.open("ab")
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.close()
    return None
  return file


def start(
  run: Run, claim: IO[bytes], slot: int = 0, jobs: int = 1
) -> subprocess.Popen:
  """Starts a run's process, on its share of the processors.

  Args:
    run: to be trained.
    claim: of :func:`claim_of`; it is the child's from now on.
    slot: from 0.
    jobs: how many slots there are.
  """
  command = [
    *(sys.executable, "-u", "-m", "sparse_regimes.main"),
    *(f"--config={run.config}", f"--workdir={run.workdir}"),
    *(f"--config.{override}" for override in run.all_overrides),
  ]
  with claim, run.workdir.with_suffix(".log").open("ab") as file:
    child = subprocess.Popen(
      command,
      stdout=file,
      stderr=subprocess.STDOUT,
      pass_fds=(claim.fileno(),),
      # Runs side by side share an accelerator's memory.
      env=(_SHARED if jobs > 1 else {}) | os.environ,
      # A terminal's ^C is for this process, which tells its children.
      start_new_session=True,
    )
  share = _share(slot, jobs)
  if share:
    os.sched_setaffinity(child.pid, share)
  return child


def _share(slot: int, jobs: int) -> set[int]:
  """A slot's processors; none where they cannot be shared out."""
  if not hasattr(os, "sched_getaffinity"):
    return set()
  processors = sorted(os.sched_getaffinity(0))
  return set(processors[slot::jobs]) if 1 < jobs <= len(processors) else set()


def _failure(run: Run, code: int) -> str:
  return f"{run.arm} seed {run.seed} ended with {code}: {last_line(run)}"


def last_line(run: Run) -> str:
  """The last that a run's process printed."""
  text = run.workdir.with_suffix(".log").read_text(errors="replace").strip()
  return text.splitlines()[-1] if text else "it printed nothing"


@contextlib.contextmanager
def signals_seen() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM while it is open."""
  seen: list[int] = []
  before = {
    number: signal.signal(number, lambda n, _: seen.append(n))
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  try:
    yield seen
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
