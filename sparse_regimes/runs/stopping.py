"""Ends a run in good order when the system or a person asks for it."""

import os
import select
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Self

# The step is finished and the state saved in this time, or the process ends
# without: systems that preempt kill after 30 seconds.
GRACE_SECONDS = 25.0
# A SIGTERM that comes so soon after another is the same one: ``timeout`` and
# schedulers send it to a process and to its group.
_SAME_SECONDS = 1.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
  """A run that stopped because it was asked to.

  No ``Exception``, as ``KeyboardInterrupt`` is none: it may come anywhere, and
  no handler of errors is to take it for one.

  Attributes:
    signal_number: what asked.
  """

  def __init__(self, signal_number: int):
    super().__init__(signal.Signals(signal_number).name)
    self.signal_number = signal_number

  @property
  def exit_code(self) -> int:
    """130 for an interrupt, 143 for a termination, as shells have it."""
    return 128 + self.signal_number


class StopSignals:
  """Turns SIGINT and SIGTERM into a request that the loop reads.

  A thread waits for them, since Python's own handlers wait for the main thread,
  which may compile for minutes. A second signal, or the end of the grace,
  ends the process at once: what was saved before is safe in any case. (A second
  SIGTERM within a second does not count.)

  Use it as a context manager, in the main thread. While it is not ``graceful``
  a signal raises :class:`Stopped` wherever the main thread is.

  Attributes:
    requested: the number of the signal that came, or None.
    graceful: whether the loop reads ``requested``.
  """

  def __init__(self, signals: tuple[signal.Signals, ...] = _SIGNALS):
    self.requested: int | None = None
    self.graceful = False
    self._raised = False
    self._signals = signals

  def check(self) -> None:
    """Raises :class:`Stopped` if that was asked for."""
    if self.requested is not None:
      raise Stopped(self.requested)

  def __enter__(self) -> Self:
    self._active = threading.current_thread() is threading.main_thread()
    if self._active:
      self._read, self._write = os.pipe()
      os.set_blocking(self._write, False)
      self._old_fd = signal.set_wakeup_fd(self._write)
      self._old = {s: signal.signal(s, self._handle) for s in self._signals}
      self._thread = threading.Thread(target=self._watch, daemon=True)
      self._thread.start()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    if self._active:
      for number, handler in self._old.items():
        # None is a handler that was not Python's.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
      signal.set_wakeup_fd(self._old_fd)
      os.write(self._write, b"\0")
      self._thread.join()
      os.close(self._read)
      os.close(self._write)

  def _handle(self, number: int, frame: FrameType | None) -> None:
    """Runs in the main thread, when it next runs Python."""
    del frame
    self.requested = number
    # Once: raised anew, it would break what ends in good order.
    if not self.graceful and not self._raised:
      self._raised = True
      raise Stopped(number)

  def _first(self, deadline: float | None) -> int | None:
    """The signal that has just come; None if it has been a while."""
    if deadline is None:
      return None
    since = time.monotonic() - (deadline - GRACE_SECONDS)
    return self.requested if since < _SAME_SECONDS else None

  def _watch(self) -> None:
    deadline = None
    while True:
      left = None if deadline is None else max(0, deadline - time.monotonic())
      ready, _, _ = select.select([self._read], [], [], left)
      number = os.read(self._read, 1)[0] if ready else self.requested or 0
      if number == 0:
        return
      if ready and number not in self._signals:
        continue
      if ready and number == signal.SIGTERM == self._first(deadline):
        continue
      if deadline is not None:
        why = "again" if ready else f"not done after {GRACE_SECONDS:.0f} s"
        print(f"{why}: ending at once", file=sys.stderr, flush=True)
        os._exit(128 + number)
      deadline = time.monotonic() + GRACE_SECONDS
      self.requested = number
      print(
        f"{signal.Signals(number).name}: finishing the step and saving; once"
        " more to end at once",
        file=sys.stderr,
        flush=True,
      )
