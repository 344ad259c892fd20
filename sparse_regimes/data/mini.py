"""A small, class-balanced part of CIFAR-10 that comes with the package.

1,280 training images (the first 128 of each class in ``data_batch_1``) and 256
test images (the first 26 of each of classes 0 to 5 and the first 25 of each
other class in ``test_batch``), each split in official order. For smoke runs and
tests; an accuracy measured on it says nothing about CIFAR-10.

``experiments/make_cifar10_mini.py`` wrote the files: for each split one PNG, a
sheet of images with 32 to a row, and the labels of both in ``labels.json``.
"""

import hashlib
import importlib.resources
import json

import numpy as np

from sparse_regimes.data import binary
from sparse_regimes.data.dataset import Dataset
from sparse_regimes.data.release import IMAGE_SHAPE, NUM_CLASSES
from sparse_regimes.errors import InputError

# Of both splits as binary records, not of the files: another PNG encoder may
# write other bytes for the same pixels.
SHA256 = "1b2e711a06ddf225adeda9d52e5470182f7f60b7e0acd3d4b3de909171d2524b"
SHEET_COLUMNS = 32


def load() -> Dataset:
  """Reads the embedded images.

  Returns:
    1,280 training and 256 test images of 10 classes.

  Raises:
    InputError: when the installed files are missing or damaged.

  Example:
    >>> from sparse_regimes.data.mini import load
    >>> load().train_images.shape
    (1280, 32, 32, 3)
  """
  folder = importlib.resources.files("sparse_regimes.data") / "cifar10_mini"
  try:
    labels = json.loads((folder / "labels.json").read_bytes())
    train_labels = np.array(labels["train"], np.int32)
    test_labels = np.array(labels["test"], np.int32)
    train_images = _read_sheet(folder / "train.png")
    test_images = _read_sheet(folder / "test.png")
    found = digest(train_images, train_labels, test_images, test_labels)
  # Damaged bytes make the PNG and JSON decoders raise exceptions of many kinds.
  except Exception as error:
    raise InputError(
      f"data.name cifar10_mini cannot be read from {folder} "
      f"({type(error).__name__}: {error}); install sparse_regimes again"
    ) from error
  if found != SHA256:
    raise InputError(
      f"data.name cifar10_mini is damaged in {folder} (SHA-256 {found}, "
      f"expected {SHA256}); install sparse_regimes again"
    )
  return Dataset(
    train_images=train_images,
    train_labels=train_labels,
    test_images=test_images,
    test_labels=test_labels,
    num_classes=NUM_CLASSES,
    source="a part of CIFAR-10 that comes with the package",
  )


def digest(
  train_images: np.ndarray,
  train_labels: np.ndarray,
  test_images: np.ndarray,
  test_labels: np.ndarray,
) -> str:
  """The SHA-256 of both splits as binary records."""
  records = hashlib.sha256(binary.encode(train_images, train_labels))
  records.update(binary.encode(test_images, test_labels))
  return records.hexdigest()


def to_sheet(images: np.ndarray) -> np.ndarray:
  """Lays images out on a sheet, 32 to a row.

  Args:
    images: ``[32 * r, h, w, c]``.

  Returns:
    ``[r * h, 32 * w, c]``.
  """
  height, width, channels = images.shape[1:]
  grid = images.reshape(-1, SHEET_COLUMNS, height, width, channels)
  return grid.swapaxes(1, 2).reshape(-1, SHEET_COLUMNS * width, channels)


def from_sheet(sheet: np.ndarray) -> np.ndarray:
  """The inverse of ``to_sheet`` for images of 32 x 32 x 3."""
  height, width, channels = IMAGE_SHAPE
  grid = sheet.reshape(-1, height, SHEET_COLUMNS, width, channels)
  return grid.swapaxes(1, 2).reshape(-1, height, width, channels)


def _read_sheet(file: importlib.resources.abc.Traversable) -> np.ndarray:
  from PIL import Image  # here, as only the data that needs it should load it

  with file.open("rb") as stream:
    return from_sheet(np.asarray(Image.open(stream, formats=["PNG"])))
