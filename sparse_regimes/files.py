"""Files of a run folder, on a disk or in a bucket."""

import contextlib
import json
import os
from typing import Any

from etils import epath


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


def is_remote(path: epath.Path) -> bool:
  """Whether this is a bucket, such as ``gs://name``."""
  return "://" in os.fspath(path)
