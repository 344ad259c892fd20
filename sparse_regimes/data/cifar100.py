"""CIFAR-100: as CIFAR-10, of a hundred classes with 500 images each."""

import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sparse_regimes.data import cifar10, store, tarball, tfds_sets
from sparse_regimes.data.dataset import Dataset
from sparse_regimes.errors import InputError

FOLDER = "cifar-100-binary"
ARCHIVE = f"{FOLDER}.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
# As published beside the archive.
ARCHIVE_MD5 = "03b5dce01913d631647c71ecec9e9cb8"
NUM_CLASSES = 100
# Images of each class.
SPLITS = {"train.bin": 500, "test.bin": 100}
# A label of twenty and one of a hundred classes, then three planes.
_RECORD_BYTES = 2 + 32 * 32 * 3
_TIMEOUT_SECONDS = 10


def load(
  data_dir: str = "",
  *,
  log: Callable[[str], None] = print,
) -> Dataset:
  """Finds CIFAR-100 on disk, or fetches its archive.

  Looked for in this order: the binary files in ``cifar-100-binary``, the
  official archive, a directory of tensorflow-datasets; then the archive is
  fetched from its host and kept.

  Args:
    data_dir: as for :func:`sparse_regimes.data.cifar10.load`.
    log: takes a line at a time.

  Raises:
    InputError: if it cannot be had, or is not what was published: of every
      class there are 500 training and 100 test images.
  """
  folder = cifar10.folder(data_dir)
  unpacked, archive = folder / FOLDER, folder / ARCHIVE
  if all((unpacked / name).is_file() for name in SPLITS):
    files = {name: (unpacked / name).read_bytes() for name in SPLITS}
    return _dataset(files, f"binary files in {unpacked}")
  if not archive.is_file():
    try:
      return _checked(tfds_sets.load("cifar100", folder))
    except ValueError as error:
      log(f"CIFAR-100: not from tensorflow-datasets: {error}")
    _fetch(archive, log)
  limits = {
    f"{FOLDER}/{name}": NUM_CLASSES * each * _RECORD_BYTES
    for name, each in SPLITS.items()
  }
  found = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
  if found != ARCHIVE_MD5:
    raise InputError(
      f"data.dir {folder}: {archive} must have the MD5 {ARCHIVE_MD5}, got"
      f" {found}; remove it and it is fetched again"
    )
  members = tarball.read(archive, limits)
  files = {name: members[f"{FOLDER}/{name}"] for name in SPLITS}
  return _dataset(files, f"official archive {archive}")


def _fetch(archive: Path, log: Callable[[str], None]) -> None:
  log(f"CIFAR-100: downloading {URL}")
  try:
    with store.scratch(archive.parent) as workspace:
      path = workspace / ARCHIVE
      with urllib.request.urlopen(URL, timeout=_TIMEOUT_SECONDS) as response:
        path.write_bytes(response.read())
      path.replace(archive)
  except OSError as error:
    raise InputError(
      f"data.dir {archive.parent}: CIFAR-100 is not there, and {URL} could not"
      f" be fetched ({error}); fetch it elsewhere and put it at {archive}"
    ) from error


def _dataset(files: dict[str, bytes], source: str) -> Dataset:
  splits = {}
  for name, each in SPLITS.items():
    wanted = NUM_CLASSES * each * _RECORD_BYTES
    if len(files[name]) != wanted:
      raise InputError(
        f"data.name cifar100: {name} of the {source} must have {wanted} bytes,"
        f" got {len(files[name])}"
      )
    rows = np.frombuffer(files[name], np.uint8).reshape(-1, _RECORD_BYTES)
    planes = rows[:, 2:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    splits[name] = images, rows[:, 1].astype(np.int32)
  train, test = splits.values()
  return _checked(Dataset(*train, *test, NUM_CLASSES, source))


def _checked(data: Dataset) -> Dataset:
  for labels, each in zip(
    (data.train_labels, data.test_labels), SPLITS.values(), strict=True
  ):
    if np.bincount(labels, minlength=NUM_CLASSES).tolist() != [each] * 100:
      raise InputError(
        f"data.name cifar100: {data.source} must have {each} images of each of"
        " 100 classes"
      )
  return data
