"""The binary batches on disk: found, verified, and put there in one step."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sparse_regimes.data import binary
from sparse_regimes.data.release import (
  FOLDER,
  AbsentError,
  Batches,
  Log,
  Release,
  UnavailableError,
)

# Work in progress lies beside the folders it becomes: a rename is atomic only
# within one file system.
_SCRATCH_PREFIX = f".{FOLDER}."
_STALE_SECONDS = 24 * 60 * 60


def read(data_dir: Path, release: Release, log: Log) -> Batches:
  """Way: the official binary batches in the data directory.

  They may lie in ``cifar-10-batches-bin``, in the data directory itself, or in
  ``cifar-10-batches-bin-2`` and on, where ``write`` puts them when an earlier
  folder is damaged. Damaged files are left as they are.

  Args:
    data_dir: where to look; it is only read.
    release: the files' names, sizes and MD5s.
    log: is told of damaged files in a folder that is passed over.

  Raises:
    AbsentError: when there is no such file.
    UnavailableError: when no folder holds all of them undamaged.
  """
  folders = [data_dir / FOLDER, data_dir, *_numbered_folders(data_dir)]
  faults: list[str] = []
  for folder in folders:
    if not any(os.path.lexists(folder / name) for name in release.md5):
      continue
    files, folder_faults = _read_folder(folder, release)
    if not folder_faults:
      for fault in faults:
        log(f"CIFAR-10: {fault}; left as it is")
      return Batches(files, f"official binary batches in {folder}")
    faults += folder_faults
  if faults:
    raise UnavailableError("; ".join(faults), "replace or remove these files")
  raise AbsentError(
    f"no *.bin files in {data_dir / FOLDER} or {data_dir}",
    f"put the {len(release.md5)} files of {release.archive_name} there",
  )


def write(files: Mapping[str, bytes], data_dir: Path, release: Release) -> Path:
  """Puts verified batches into the data directory, whole or not at all.

  The first free name of ``cifar-10-batches-bin``, ``cifar-10-batches-bin-2``
  and on is taken; nothing that exists is overwritten. When another process has
  put undamaged batches there in the meantime, those stay.

  Args:
    files: every file of ``release``, verified.
    data_dir: is made when it does not exist.
    release: the files' names, sizes and MD5s.

  Returns:
    The folder that holds the batches.

  Raises:
    OSError: when the data directory cannot be written.
  """
  with scratch(data_dir) as workspace:
    staged = workspace / FOLDER
    staged.mkdir()
    for name, content in files.items():
      with open(staged / name, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(staged)
    return _settle(staged, data_dir, release)


@contextlib.contextmanager
def scratch(data_dir: Path) -> Iterator[Path]:
  """A temporary directory inside the data directory, removed on exit.

  One that a killed process left behind is removed here a day later. Younger
  ones may be in use by another process, perhaps on another machine, so that no
  process id or lock would tell.

  Args:
    data_dir: is made when it does not exist.

  Raises:
    OSError: when the data directory cannot be written.
  """
  data_dir.mkdir(parents=True, exist_ok=True)
  for leftover in data_dir.glob(f"{_SCRATCH_PREFIX}*"):
    with contextlib.suppress(OSError):
      if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
        shutil.rmtree(leftover, ignore_errors=True)
  with tempfile.TemporaryDirectory(
    prefix=_SCRATCH_PREFIX, dir=data_dir, ignore_cleanup_errors=True
  ) as workspace:
    yield Path(workspace)


def _settle(staged: Path, data_dir: Path, release: Release) -> Path:
  """Renames ``staged`` to the first name that is free, or finds it done."""
  number = 1
  while True:
    target = data_dir / (FOLDER if number == 1 else f"{FOLDER}-{number}")
    try:
      os.rename(staged, target)
    except OSError:
      if not os.path.lexists(target):
        raise
      if not _read_folder(target, release)[1]:
        return target
    else:
      _sync_directory(data_dir)
      return target
    number += 1


def _read_folder(
  folder: Path, release: Release
) -> tuple[dict[str, bytes], list[str]]:
  """The files of a folder, and what is wrong with them, a line each."""
  files, faults = {}, []
  num_bytes = release.num_records * binary.RECORD_BYTES
  for name, expected in release.md5.items():
    path = folder / name
    if not os.path.isfile(path):
      faults.append(f"{path} is missing or not a regular file")
      continue
    try:
      with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == num_bytes:
          files[name] = file.read()
          found = binary.md5(files[name])
        else:  # of any size, so never held in memory
          found = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
      faults.append(f"{path} cannot be read: {error.strerror}")
      continue
    if found != expected:
      faults.append(f"{path}: {binary.mismatch(size, found, name, release)}")
  return files, faults


def _numbered_folders(data_dir: Path) -> list[Path]:
  """``cifar-10-batches-bin-2`` and on, by number."""
  numbered = [
    (int(number), folder)
    for folder in data_dir.glob(f"{FOLDER}-*")
    if (number := folder.name.removeprefix(f"{FOLDER}-")).isdecimal()
  ]
  return [folder for _, folder in sorted(numbered)]


def _sync_directory(directory: Path) -> None:
  """Makes the names in a directory outlive a power failure."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
