"""Several processes that train together: how they meet and agree."""

import contextlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sparse_regimes.errors import InputError

# A process that has not been heard of for so long is taken to be dead, and the
# others stop.
HEARTBEAT_SECONDS = 60
# An answer to all processes, as bytes.
_MAX_ANSWER = 1 << 16


def initialize(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the other processes of the run, if there are any.

  On a Cloud TPU VM they are found by themselves; elsewhere all three arguments
  are needed. Call it before anything else of JAX.

  Args:
    coordinator: ``host:port`` of process 0.
    num_processes: of the run.
    process_id: of this one, from 0.

  Raises:
    InputError: for some of the arguments without the others, or processes that
      did not find each other.
  """
  arguments = (coordinator, num_processes, process_id)
  given = [a is not None for a in arguments]
  if any(given) and not all(given):
    raise InputError(
      "--coordinator, --num_processes and --process_id must be given together,"
      f" got {coordinator}, {num_processes}, {process_id}"
    )
  if not any(given) and not _on_tpu_vm():
    return
  try:
    jax.distributed.initialize(
      *arguments, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )
  except (RuntimeError, ValueError) as error:
    if not any(given) and isinstance(error, ValueError):
      return  # a TPU, but not among others
    reason = str(error).partition("\n")[0]
    raise InputError(
      f"--coordinator: the processes did not find each other: {reason}"
    ) from error


def shut_down() -> None:
  """Parts from the other processes, so that none takes this one for dead."""
  if jax.distributed.is_initialized():
    jax.distributed.shutdown()


@contextlib.contextmanager
def named_if_lost() -> Iterator[None]:
  """Says of which process an error is, where the cause is likely another.

  Raises:
    OSError: for errors of JAX's runtime, if there are several processes.
  """
  try:
    yield
  except (RuntimeError, ValueError) as error:
    if jax.process_count() == 1 or isinstance(error, InputError):
      raise
    reason = " ".join(str(error).split())[:200]
    raise OSError(
      f"process {jax.process_index()} of {jax.process_count()} could not go on,"
      f" most likely because another process ended ({reason})"
    ) from error


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
  """What fails on one process fails on all, rather than leave them waiting.

  Raises:
    InputError: everywhere, if it was raised anywhere.
    OSError: likewise.
  """
  failure: InputError | OSError | None = None
  try:
    yield
  except (InputError, OSError) as error:
    failure = error
  (failed,) = any_of_all(failure is not None)
  if failure is not None:
    raise failure
  if failed:
    raise InputError("another process of the run has bad input, and says which")


def check_same(what: str, value: Any) -> None:
  """Raises an ``InputError`` on all processes unless all have the same value.

  Args:
    what: it is, for people.
    value: what JSON can hold.
  """
  if jax.process_count() == 1:
    return
  expected = on_first(lambda: value)
  with all_or_none():
    if value != expected:
      raise InputError(
        f"{what} must be the same in all processes, got another in process"
        f" {jax.process_index()} than in process 0"
      )


def is_first() -> bool:
  """Whether this process is the one that writes what people read."""
  return jax.process_index() == 0


def on_first(function: Callable[[], Any]) -> Any:
  """Runs a function on process 0 and gives its result to all processes.

  Args:
    function: returns what JSON can hold.

  Raises:
    InputError: everywhere, if it was raised on process 0.
    OSError: likewise.
  """
  if jax.process_count() == 1:
    return function()
  answer: dict[str, Any] = {}
  if is_first():
    try:
      answer = {"result": function()}
    except InputError as error:
      answer = {"input_error": str(error)}
    except OSError as error:
      answer = {"os_error": str(error)}
  answer = _broadcast(answer)
  if "input_error" in answer:
    raise InputError(answer["input_error"])
  if "os_error" in answer:
    raise OSError(answer["os_error"])
  return answer["result"]


def any_of_all(*flags: bool) -> list[bool]:
  """For each flag, whether any process has set it; all get the same answer."""
  if jax.process_count() == 1:
    return list(flags)
  gathered = multihost_utils.process_allgather(np.array(flags))
  return [bool(f) for f in gathered.any(axis=0)]


def preempted(num_calls: int) -> bool:
  """Whether all processes are to stop after this call: one is being preempted.

  Args:
    num_calls: counts the calls of this function, alike on all processes.
  """
  if jax.process_count() == 1:
    return False
  return multihost_utils.reached_preemption_sync_point(num_calls)


def _broadcast(answer: dict[str, Any]) -> dict[str, Any]:
  text = json.dumps(answer).encode()
  if len(text) > _MAX_ANSWER:
    raise ValueError(f"an answer of {len(text)} bytes is too long to broadcast")
  buffer = np.zeros(_MAX_ANSWER, np.uint8)
  buffer[: len(text)] = np.frombuffer(text, np.uint8)
  received = multihost_utils.broadcast_one_to_all(buffer)
  return json.loads(bytes(received).rstrip(b"\0"))


def _on_tpu_vm() -> bool:
  """Whether this is a machine with a TPU and the library for it."""
  devices = [*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("[0-9]*")]
  return bool(devices) and importlib.util.find_spec("libtpu") is not None
