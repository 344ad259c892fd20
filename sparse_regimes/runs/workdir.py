"""The folder of a run: which one, whose, and whether it goes on there."""

import contextlib
import functools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from sparse_regimes.errors import InputError
from sparse_regimes.files import is_remote, lock, read_object, write
from sparse_regimes.references import file_of
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.checkpoint import has_checkpoints
from sparse_regimes.runs.makers import NAMED
from sparse_regimes.tasks.classification.splits import with_sources

CONFIG_FILE = "config.json"
CONSTANTS_FILE = "task.json"
_LOCK_FILE = ".lock"
_CODE = "code"
# A vocabulary may be large; no run has more.
_MAX_BYTES = 1 << 26
# Any of these says that a run lives here.
_RUN_FILES = (CONFIG_FILE, "metrics.jsonl", "checkpoints")
# What may differ when a run goes on: it decides where and how fast, not what.
FREE = (
  "checkpoint.",
  "data.dir",
  "eval.batch_size",
  "eval.parameters",
  "log.",
  "train.num_devices",
  "train.on_nonfinite",
  "train.parameters",
  "train.steps_per_call",
)


def fresh_workdir(name: str) -> epath.Path:
  """An unused ``runs/NAME-DATE-TIME`` below the current folder."""
  stamp = time.strftime("%Y%m%d-%H%M%S")
  return free_workdir(epath.Path("runs") / f"{name}-{stamp}")


def free_workdir(path: epath.Path) -> epath.Path:
  """``path``, or the first of ``path-2``, ``path-3``, ... that is not there."""
  free, suffix = path, 1
  while free.exists():
    suffix += 1
    free = path.with_name(f"{path.name}-{suffix}")
  return free


def check_workdir(path: epath.Path, config: ConfigDict) -> None:
  """Raises an ``InputError`` if the run cannot be here; leaves nothing.

  It can in a folder without a run, and where a run of this config was.
  """
  if not is_remote(path) and set("*?[]") & set(os.path.abspath(path)):
    raise InputError(
      f"--workdir must have none of * ? [ ] in its path, got {path}: the"
      " checkpoints there could not be read"
    )
  try:
    if (path / CONFIG_FILE).exists():
      _check_begun(path, config)
      with _locked(path):
        return
    for name in _RUN_FILES:
      if (path / name).exists():
        raise InputError(
          f"--workdir must be a fresh folder or a run's, got {path}, which has"
          f" {name} but no {CONFIG_FILE}"
        )
    if is_remote(path):
      return
    existing = Path(path)
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
      f"--workdir must be writable, got {path}: {error.strerror or error}"
    ) from error


def has_begun(path: epath.Path) -> bool:
  """Whether a run here has anything to go on from, or to lose.

  One that was refused before its first step has not, and may be another one.
  """
  written = (path / name for name in ("metrics.jsonl", "summary.json"))
  return has_checkpoints(path) or any(
    file.exists() and file.stat().length > 0 for file in written
  )


def in_use(path: epath.Path) -> bool:
  """Whether a living process trains here."""
  if is_remote(path) or not (path / _LOCK_FILE).exists():
    return False
  with open(path / _LOCK_FILE, "rb") as file:
    return not lock(file)


@contextlib.contextmanager
def open_workdir(path: epath.Path, config: ConfigDict) -> Iterator[None]:
  """Makes the folder, writes ``config.json``, and keeps other runs out.

  Raises:
    InputError: if it cannot be written or another run has it.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(
      f"--workdir must be writable, got {path}: {error.strerror or error}"
    ) from error
  with _locked(path):
    if (path / CONFIG_FILE).exists():
      _check_begun(path, config)
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    try:
      write(path / CONFIG_FILE, text)
      _copy_code(path, config)
    except OSError as error:
      raise InputError(f"--workdir must be writable: {error}") from error
    yield


def _check_begun(path: epath.Path, config: ConfigDict) -> None:
  """As ``check_same`` where it has begun; else its config must be one at least.

  It could be the ``config.json`` of another program.
  """
  if has_begun(path):
    check_same(path, config)
  else:
    given_config(path)


def check_same(path: epath.Path, config: ConfigDict) -> None:
  """Raises an ``InputError`` if a run here began with another config.

  It goes on with the one it began with, or a longer one.
  """
  before = given_config(path)
  free: tuple[str, ...] = FREE
  if config.train.epochs > before.train.epochs:
    free += ("train.epochs",)
  if differing := differing_fields(before, config, free):
    raise InputError(
      f"--workdir {path} holds a run of another config: {', '.join(differing)};"
      " --force_new starts afresh in a new folder"
    )


def saved_config(path: epath.Path, overrides: Sequence[str] = ()) -> ConfigDict:
  """The config of the run in a folder.

  What it named in files of its own is looked for in the copies beside it, as
  those files may have gone or changed.

  Args:
    path: the folder.
    overrides: of the config.
  """
  copies = []
  for field, text in _given(path).items():
    changed = _with_references(field, text, functools.partial(_copied, path))
    if changed != text:
      copies.append(f"{field}={changed}")
  return configs.load(os.fspath(path / CONFIG_FILE), [*copies, *overrides])


def given_config(path: epath.Path) -> ConfigDict:
  """The same, with names as they were given: to compare and to show."""
  config = saved_config(path)
  config.update_from_flattened_dict(_given(path))
  return config


# Fields that may name what is in files of one's own.
_REFERENCES = (
  *(f"{section}.name" for section in (*NAMED, "data", "optimizer")),
  *("task.loss", "eval.sets", "log.backends"),
)


def _given(path: epath.Path) -> dict[str, str]:
  """These fields as they were given, by ``section.field``."""
  try:
    written = configs.flatten(json.loads((path / CONFIG_FILE).read_text()))
  except (ValueError, AttributeError):
    # Who reads the whole of it says what is wrong.
    return {}
  return {
    field: written[field]
    for field in _REFERENCES
    if isinstance(written.get(field), str)
  }


def _with_references(
  field: str, text: str, changed: Callable[[str, str], str]
) -> str:
  """A field's text with ``changed(folder, name)`` in place of what it names."""
  if field == "eval.sets":
    return with_sources(text, lambda name, it: changed(f"eval.{name}", it))
  if field == "log.backends":
    return ",".join(changed("log", name.strip()) for name in text.split(","))
  return changed(field.removesuffix(".name"), text)


def _copied(path: epath.Path, folder: str, name: str) -> str:
  """The name with the copy in the place of its file, if there is one."""
  copy = _copy_of(path, folder, name)
  if copy is None or not copy.exists():
    return name
  return f"{copy}:{name.rpartition(':')[2]}"


def _copy_of(path: epath.Path, section: str, name: str) -> Path | None:
  file = file_of(name)
  if file is None or is_remote(path):
    return None
  return Path(path) / _CODE / section / file.name


def _copy_code(path: epath.Path, config: ConfigDict) -> None:
  """Copies what the config names in files of its own."""

  def copy_file(folder: str, name: str) -> str:
    file, copy = file_of(name), _copy_of(path, folder, name)
    if file is None or copy is None:
      return name
    text = file.read_bytes()
    # A logger decides nothing, and may change.
    decides = not folder.startswith("log")
    changed = copy.exists() and copy.read_bytes() != text
    if decides and changed and has_begun(path):
      raise InputError(
        f"--workdir {path} holds a run of another {file}: its copy is {copy};"
        " --force_new starts afresh in a new folder"
      )
    copy.parent.mkdir(parents=True, exist_ok=True)
    write(epath.Path(copy), text)
    return name

  named = configs.flatten(config)
  for field in _REFERENCES:
    if field in named:
      _with_references(field, named[field], copy_file)


def stored_constants(path: epath.Path) -> dict[str, Any] | None:
  """What the run computed from its data; None before it has begun.

  Raises:
    InputError: if it cannot be read.
  """
  file = path / CONSTANTS_FILE
  is_there = has_begun(path) and file.exists()
  return read_object(file, most=_MAX_BYTES) if is_there else None


def store_constants(
  path: epath.Path, constants: Mapping[str, Any], digest: int
) -> None:
  """Writes them, for whoever goes on with the run or looks at it.

  Args:
    path: the run's folder.
    constants: of its task.
    digest: of its data.
  """
  content = {**constants, "digest": digest}
  if not has_begun(path) or not (path / CONSTANTS_FILE).exists():
    write(path / CONSTANTS_FILE, json.dumps(content, indent=2) + "\n")


def differing_fields(
  before: ConfigDict, now: ConfigDict, free: tuple[str, ...] = FREE
) -> list[str]:
  """Which fields differ, and how, but for those that begin as ``free`` says."""
  was, is_now = configs.flatten(before), configs.flatten(now)
  return [
    f"{field} (was {was.get(field)!r}, now {is_now.get(field)!r})"
    for field in sorted(was.keys() | is_now.keys())
    if was.get(field) != is_now.get(field) and not field.startswith(free)
  ]


@contextlib.contextmanager
def _locked(path: epath.Path) -> Iterator[None]:
  """Holds the folder's lock, which the system frees when a process dies.

  There are no locks in buckets.

  Raises:
    InputError: if a living process has it.
  """
  if is_remote(path):
    yield
    return
  descriptor = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
  with open(descriptor, "r+", encoding="utf-8", errors="replace") as file:
    if not lock(file):
      raise InputError(
        f"--workdir {path} is in use by another run ({file.read().strip()})"
      )
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    yield
