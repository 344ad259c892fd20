"""``PATH.py:Name`` and ``package.module:Name``: objects from outside."""

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sparse_regimes.errors import InputError, did_you_mean


def is_reference(text: str) -> bool:
  """Whether this names an object in a file or in a module.

  Example:
    >>> [is_reference(s) for s in ("my/net.py:Net", "my.net:Net", "npz:a.npz")]
    [True, True, False]
  """
  where, _, name = text.rpartition(":")
  is_module = "." in where and all(p.isidentifier() for p in where.split("."))
  return name.isidentifier() and (where.endswith(".py") or is_module)


def file_of(text: str) -> Path | None:
  """The file of a reference; None if it names a module."""
  where = text.rpartition(":")[0]
  return Path(where).expanduser() if where.endswith(".py") else None


def resolve(text: str, field: str) -> Any:
  """The object that a reference names.

  A file is run (only name those you trust), and may import the files beside it.
  The same file gives the same objects.

  Args:
    text: ``PATH.py:Name`` or ``package.module:Name``.
    field: of the config, for errors.

  Raises:
    InputError: in one line, if there is no such file or module, if it cannot be
      imported, or if the name is not in it.
  """
  where, _, name = text.rpartition(":")
  file = file_of(text)
  try:
    if file is not None:
      path = file.absolute()
      module = _of_file(path, hashlib.sha256(path.read_bytes()).hexdigest())
    else:
      module = importlib.import_module(where)
  except FileNotFoundError as error:
    raise InputError(
      f"{field}: there is no file {where}, got {text}"
    ) from error
  except (Exception, SystemExit) as error:
    raise InputError(
      f"{field}: {where} could not be imported: {type(error).__name__}:"
      f" {' '.join(str(error).split())}"
    ) from error
  if not hasattr(module, name):
    public = [n for n in vars(module) if not n.startswith("_")]
    raise InputError(
      f"{field}: {where} has no {name!r}{did_you_mean(name, public)}"
    )
  return getattr(module, name)


@functools.cache
def _of_file(path: Path, digest: str) -> ModuleType:
  """A module of its own name, so that two files of one name are two."""
  name = f"_sparse_regimes_{path.stem}_{digest[:12]}"
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise ImportError(f"{path} is no Python file")
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look themselves up here.
  sys.modules[name] = module
  try:
    with beside(path.parent):
      spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  return module


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[None]:
  """A file that is run may import the files of its folder, and no other's.

  In another folder the same names are other files, so they are forgotten.
  """
  before = set(sys.modules)
  sys.path.insert(0, os.fspath(folder))
  try:
    yield
  finally:
    sys.path.remove(os.fspath(folder))
    for name in set(sys.modules) - before:
      where = getattr(sys.modules[name], "__file__", None) or ""
      if Path(where).parent == folder:
        del sys.modules[name]
