"""The folder of a run: whether it may be used, and what identifies it."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sparse_regimes.errors import InputError

CONFIG_FILE = "config.json"
# Any of these says that a run lives here.
_RUN_FILES = (CONFIG_FILE, "metrics.jsonl", "checkpoints")


def fresh_workdir(name: str) -> Path:
  """An unused ``runs/NAME-DATE-TIME`` below the current folder."""
  stamp = time.strftime("%Y%m%d-%H%M%S")
  path = Path("runs") / f"{name}-{stamp}"
  suffix = 1
  while path.exists():
    suffix += 1
    path = Path("runs") / f"{name}-{stamp}-{suffix}"
  return path


def check_workdir(path: Path) -> None:
  """Raises an ``InputError`` if a run cannot start here; leaves nothing."""
  try:
    for name in _RUN_FILES:
      if (path / name).exists():
        raise InputError(
          f"--workdir must be a fresh folder, got {path}, which holds another"
          f" run ({name})"
        )
    existing = path
    while not existing.exists() and existing != existing.parent:
      existing = existing.parent
    # Asking for permission is not enough: root has it on a read-only disk.
    with tempfile.TemporaryFile(dir=existing):
      pass
  except NotADirectoryError as error:
    raise InputError(
      f"--workdir must be a folder, got {path}, but {existing} is a file"
    ) from error
  except OSError as error:
    raise InputError(
      f"--workdir must be writable, got {path}: {error.strerror}"
    ) from error


def create_workdir(path: Path, config: ConfigDict) -> None:
  """Makes the folder and writes ``config.json``, which no other run may have.

  Raises:
    InputError: if it cannot be written or another run was faster.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
    with (path / CONFIG_FILE).open("x", encoding="utf-8") as file:
      json.dump(config.to_dict(), file, indent=2)
      file.write("\n")
  except FileExistsError as error:
    raise InputError(
      f"--workdir must be a fresh folder, got {path}, which holds another run"
    ) from error
  except OSError as error:
    raise InputError(
      f"--workdir must be writable, got {path}: {error.strerror}"
    ) from error


def write_json(path: Path, content: Any) -> None:
  """Writes JSON so that a reader sees the old file or the whole new one."""
  unfinished = path.with_name(f".{path.name}.tmp")
  unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
  unfinished.replace(path)
