"""Files of a run folder, on a disk or in a bucket."""

import contextlib
import errno
import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from etils import epath

from sparse_regimes.errors import InputError

# What a file system says that has no locks, as a cluster's may.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)


def write(path: epath.Path, content: str | bytes) -> None:
  """Writes a file so that a reader sees the old one or the whole new one.

  Raises:
    OSError: if it cannot be written; the old one is intact.
  """
  if isinstance(content, str):
    content = content.encode()
  if is_remote(path):
    path.write_bytes(content)  # objects appear whole
    return
  # Another process may be writing the same file.
  unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with open(unfinished, "wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    unfinished.replace(path)
  except OSError as error:
    with contextlib.suppress(OSError):
      unfinished.unlink()
    raise OSError(f"{path} could not be written: {error.strerror}") from error


def read_json(path: epath.Path, *, most: int) -> Any:
  """Reads a JSON file that anybody may have written.

  Args:
    path: of the file.
    most: bytes that it may have.

  Raises:
    OSError: if it cannot be read.
    ValueError: if it is too large or not JSON.
  """
  if path.stat().length > most:
    raise ValueError(f"it has more than {most} bytes")
  try:
    return json.loads(path.read_bytes())
  except RecursionError as error:
    raise ValueError("it is nested too deeply") from error


def read_object(path: epath.Path, *, most: int) -> dict[str, Any]:
  """Reads a JSON object.

  Args:
    path: of the file.
    most: bytes that it may have.

  Raises:
    InputError: in one line that names the file, if it cannot be read as one.
  """
  try:
    content = read_json(path, most=most)
    if not isinstance(content, dict):
      raise ValueError("it is not a JSON object")
  except (OSError, ValueError) as error:
    raise InputError(f"{path} could not be read: {error}") from error
  return content


def is_remote(path: epath.Path) -> bool:
  """Whether this is a bucket, such as ``gs://name``."""
  return "://" in os.fspath(path)


def lock(file: IO[Any], *, wait: bool = False) -> bool:
  """Whether the lock of a file could be had; its process frees it by ending.

  On a file system without locks it is had at once, and a warning says so.

  Args:
    file: open.
    wait: until it can be had. Otherwise a fifth of a second: one who only asks
      has it for a moment.
  """
  for _ in range(1 if wait else 20):
    try:
      fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
      time.sleep(0.01)
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise
      print(
        f"warning: {file.name} cannot be locked ({error.strerror}): take care"
        " that no second run uses this folder",
        file=sys.stderr,
      )
      return True
    else:
      return True
  return False


def expanded(path: str | os.PathLike[str], field: str) -> Path:
  """A path with a leading ``~`` replaced by the home it means.

  Raises:
    InputError: naming the field, if there is no such home.
  """
  try:
    return Path(path).expanduser()
  except RuntimeError as error:
    raise InputError(
      f"{field} must be a folder that there is, got {os.fspath(path)}, whose ~"
      " is nobody's home; give the whole path"
    ) from error
