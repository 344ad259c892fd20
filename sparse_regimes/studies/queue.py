"""Many runs, one after another or side by side, whatever interrupts them."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from etils import epath

from sparse_regimes.files import lock
from sparse_regimes.runs.pace import format_seconds
from sparse_regimes.runs.workdir import in_use
from sparse_regimes.studies.arms import Run

_SECONDS_BETWEEN_LINES = 30.0
_SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Interrupted(BaseException):
  """A signal came; every run that went on has saved its state."""

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.exit_code = 128 + number


def run_all(
  runs: Sequence[Run],
  *,
  jobs: int = 1,
  minutes: float = 0.0,
  log: Callable[[str], None] = print,
) -> bool:
  """Does what is not finished, each run in a process of its own.

  What is finished is left, what was interrupted goes on, and what another
  process is doing is waited for.

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
  waiting = [run for run in runs if not run.finished()]
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
          waiting = [run for run in waiting if not run.finished()]
        for slot in set(range(jobs)) - set(children):
          run, claim = _next(waiting)
          if run is None or claim is None:
            break
          waiting.remove(run)
          with claim:
            children[slot] = run, start(run, claim, slot, jobs)
          log(f"start       {run.arm} seed {run.seed} in {run.workdir}")
        # What is left may be trained by others.
        time.sleep(0.5)
        for slot, (run, child) in list(children.items()):
          if child.poll() is None:
            continue
          del children[slot]
          # One that diverged is finished, and counts.
          if not run.finished():
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
  return all(run.finished() for run in runs)


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
  """The first that nobody is at and nobody has finished, claimed."""
  for run in waiting:
    claim = claim_of(run.workdir)
    if claim is None:
      continue
    if not run.finished() and not in_use(epath.Path(run.workdir)):
      return run, claim
    claim.close()
  return None, None


def claim_of(workdir: Path) -> IO[bytes] | None:
  """The right to a run, until the file is closed; None if another has it.

  A run takes its own lock only once JAX is there. A child inherits the claim,
  so that it outlives its parent.
  """
  path = workdir.with_suffix(".claim")
  path.parent.mkdir(parents=True, exist_ok=True)
  file = path.open("ab")
  if not lock(file):
    file.close()
    return None
  return file


def start(
  run: Run, claim: IO[bytes], slot: int = 0, jobs: int = 1
) -> subprocess.Popen:
  """Starts a run's process, on its share of the processors.

  Args:
    run: to be trained.
    claim: of :func:`claim_of`; the child has it, too, from now on.
    slot: from 0.
    jobs: how many slots there are.
  """
  with run.workdir.with_suffix(".log").open("ab") as file:
    child = subprocess.Popen(
      run.command,
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
  if not code:
    log = run.workdir.with_suffix(".log")
    return f"{run.arm} seed {run.seed} ended before its last epoch, see {log}"
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
