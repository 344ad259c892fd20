"""Many runs, one after another or side by side, whatever interrupts them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from sparse_regimes import config as configs
from sparse_regimes.errors import InputError
from sparse_regimes.journal import read_records
from sparse_regimes.pace import format_seconds
from sparse_regimes.workdir import check_workdir, in_use

_SECONDS_BETWEEN_LINES = 30.0


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
    return configs.load(self.config, self.all_overrides)

  def summary(self) -> dict[str, Any] | None:
    """What the finished run came to; None if it is not finished.

    Raises:
      InputError: if its summary cannot be read.
    """
    path = self.workdir / "summary.json"
    try:
      summary = json.loads(path.read_text())
      done = summary["epochs"], summary["seed"]
    except (FileNotFoundError, NotADirectoryError):
      return None
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise InputError(
        f"{path} must be a run's summary, but cannot be read"
        f" ({type(error).__name__}: {error}); delete it and the run writes it"
        " again"
      ) from error
    config = self.load()
    return summary if done == (config.train.epochs, self.seed) else None

  def epochs_done(self) -> int:
    """As far as its log tells."""
    path = epath.Path(self.workdir) / "metrics.jsonl"
    return len(read_records(path)) if path.exists() else 0


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
    seeds = list(range(seeds[0]))
  if not 0 < len(set(seeds)) == len(seeds) <= 1000:
    raise InputError(f"--seeds must be 1 to 1000 different seeds, got {text!r}")
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
      "train.epochs": config.train.epochs,
    }.items():
      if field != "data.dir" and expected.setdefault(field, value) != value:
        raise InputError(
          f"--configs must agree in {field}, got {expected[field]!r} in"
          f" {runs[0].arm} and {value!r} in {run.arm}"
        )
    if not in_use(epath.Path(run.workdir)):
      check_workdir(epath.Path(run.workdir), config)
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
        for slot in set(range(jobs)) - set(children):
          run = next((r for r in waiting if not in_use(_path(r))), None)
          if run is None:
            break
          waiting.remove(run)
          children[slot] = run, start(run, slot, jobs)
          log(f"start       {run.arm} seed {run.seed} in {run.workdir}")
        if waiting and not children:
          # All that is left is trained by others, who may have finished it.
          waiting = [run for run in waiting if run.summary() is None]
        time.sleep(0.5)
        for slot, (run, child) in list(children.items()):
          if child.poll() is None:
            continue
          del children[slot]
          if child.returncode:
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


def start(run: Run, slot: int = 0, jobs: int = 1) -> subprocess.Popen:
  """Starts a run's process, on its share of the processors."""
  run.workdir.parent.mkdir(parents=True, exist_ok=True)
  command = [
    *(sys.executable, "-u", "-m", "sparse_regimes.main"),
    *(f"--config={run.config}", f"--workdir={run.workdir}"),
    *(f"--config.{override}" for override in run.all_overrides),
  ]
  with run.workdir.with_suffix(".log").open("w") as file:
    child = subprocess.Popen(
      command,
      stdout=file,
      stderr=subprocess.STDOUT,
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
  lines = run.workdir.with_suffix(".log").read_text().strip().splitlines()
  last = lines[-1] if lines else "it printed nothing"
  return f"{run.arm} seed {run.seed} ended with {code}: {last}"


def _path(run: Run) -> epath.Path:
  return epath.Path(run.workdir)


class signals_seen:  # noqa: N801  # used like a function
  """Collects SIGINT and SIGTERM while it is open."""

  def __enter__(self) -> list[int]:
    self._seen: list[int] = []
    self._before = {
      number: signal.signal(number, lambda n, _: self._seen.append(n))
      for number in (signal.SIGINT, signal.SIGTERM)
    }
    return self._seen

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
