"""CIFAR-10's binary format: a label byte, then three planes of pixels."""

import hashlib

import numpy as np

from sparse_regimes.data.dataset import Dataset
from sparse_regimes.data.release import (
  IMAGE_SHAPE,
  NUM_CLASSES,
  Batches,
  Release,
  UnavailableError,
)

RECORD_BYTES = 1 + 32 * 32 * 3


def encode(images: np.ndarray, labels: np.ndarray) -> bytes:
  """Labelled images as binary records.

  Args:
    images: uint8 ``[n, 32, 32, 3]``.
    labels: integers ``[n]``, in ``[0, 10)``.

  Returns:
    ``n`` records of 3,073 bytes: the label, then the red, the green and the
    blue plane, each row by row.

  Raises:
    ValueError: for other shapes, dtypes or labels.

  Example:
    >>> import numpy as np
    >>> len(encode(np.zeros((2, 32, 32, 3), np.uint8), np.array([3, 8])))
    6146
  """
  if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE:
    raise ValueError(
      f"images must be uint8 [n, 32, 32, 3], got {images.dtype} {images.shape}"
    )
  if labels.shape != images.shape[:1] or not _are_labels(labels):
    raise ValueError(
      f"labels must be {len(images)} integers in [0, {NUM_CLASSES})"
    )
  records = np.empty((len(images), RECORD_BYTES), np.uint8)
  records[:, 0] = labels
  records[:, 1:] = images.transpose(0, 3, 1, 2).reshape(-1, RECORD_BYTES - 1)
  return records.tobytes()


def decode(records: bytes) -> tuple[np.ndarray, np.ndarray]:
  """The inverse of ``encode``.

  Args:
    records: ``n`` records of 3,073 bytes.

  Returns:
    Images, uint8 ``[n, 32, 32, 3]``, and labels, int32 ``[n]``.

  Raises:
    ValueError: when the bytes are not a whole number of records.

  Example:
    >>> images, labels = decode(bytes(3073))
    >>> images.shape, labels
    ((1, 32, 32, 3), array([0], dtype=int32))
  """
  if len(records) % RECORD_BYTES:
    raise ValueError(
      f"{len(records)} bytes are not a whole number of records of "
      f"{RECORD_BYTES} bytes"
    )
  rows = np.frombuffer(records, np.uint8).reshape(-1, RECORD_BYTES)
  planes = rows[:, 1:].reshape(-1, 3, 32, 32)
  images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
  return images, rows[:, 0].astype(np.int32)


def to_dataset(batches: Batches, release: Release) -> Dataset:
  """Verified batches as arrays, train files in official order.

  Args:
    batches: every file of ``release``.
    release: the names and their order.
  """
  train = [decode(batches.files[name]) for name in release.train_names]
  test_images, test_labels = decode(batches.files[release.test_name])
  return Dataset(
    train_images=np.concatenate([images for images, _ in train]),
    train_labels=np.concatenate([labels for _, labels in train]),
    test_images=test_images,
    test_labels=test_labels,
    num_classes=NUM_CLASSES,
    source=batches.source,
  )


def verify(batches: Batches, release: Release) -> None:
  """Checks that batches are the release, byte for byte.

  Args:
    batches: what a way to the data returned.
    release: the names, sizes and MD5s.

  Raises:
    UnavailableError: naming every file that is missing or differs.
  """
  faults = []
  for name, expected in release.md5.items():
    content = batches.files.get(name, b"")
    if (found := md5(content)) != expected:
      faults.append(f"{name}: {mismatch(len(content), found, name, release)}")
  if faults:
    raise UnavailableError(
      f"{batches.source}: {'; '.join(faults)}", "replace or remove it"
    )


def mismatch(size: int, found: str, name: str, release: Release) -> str:
  """Says how a file's size and MD5 differ from those of the release."""
  num_bytes = release.num_records * RECORD_BYTES
  text = f"MD5 is {found}, expected {release.md5[name]}"
  return text if size == num_bytes else f"{size} bytes, not {num_bytes}; {text}"


def md5(content: bytes) -> str:
  """The MD5 of some bytes, in hexadecimal."""
  return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _are_labels(labels: np.ndarray) -> bool:
  is_integer = np.issubdtype(labels.dtype, np.integer)
  return is_integer and bool(np.all((labels >= 0) & (labels < NUM_CLASSES)))
