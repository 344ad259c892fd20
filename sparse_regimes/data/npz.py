"""``npz:PATH``: a data set that NumPy saved."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sparse_regimes.data.dataset import Dataset

# Ours, and those that Keras' files have.
NAMES = (
  ("train_images", "train_labels", "test_images", "test_labels"),
  ("x_train", "y_train", "x_test", "y_test"),
)


def load(path: Path) -> Dataset:
  """Reads uint8 images and integer labels of both splits.

  Images without channels, ``[n, h, w]``, get one; labels may be ``[n, 1]``.

  Args:
    path: of a file with ``train_images``, ``train_labels``, ``test_images`` and
      ``test_labels``, or with ``x_train``, ``y_train``, ``x_test``, ``y_test``.
      Nothing in it is unpickled.

  Raises:
    OSError: if it cannot be read.
    ValueError: if it is no such file.
  """
  # NumPy takes other files, too, and has other advice for what is none.
  if path.is_file() and not zipfile.is_zipfile(path):
    raise ValueError("it must be a file as numpy.savez writes it (.npz)")
  with np.load(path, allow_pickle=False) as file:
    for names in NAMES:
      if set(names) <= set(file.files):
        arrays = [file[name] for name in names]
        break
    else:
      raise ValueError(
        f"it must have {', '.join(NAMES[0])}, got {', '.join(file.files)}"
      )
  train_images, train_labels, test_images, test_labels = arrays
  train_labels, test_labels = map(_labels, (train_labels, test_labels))
  largest = max(labels.max(initial=0) for labels in (train_labels, test_labels))
  return Dataset(
    _with_channels(train_images),
    train_labels,
    _with_channels(test_images),
    test_labels,
    num_classes=int(largest) + 1,
    source=f"{path}",
  )


def _with_channels(images: np.ndarray) -> np.ndarray:
  return images[..., None] if images.ndim == 3 else images


def _labels(labels: Any) -> np.ndarray:
  if labels.ndim == 2 and labels.shape[1] == 1:
    labels = labels[:, 0]
  if np.issubdtype(labels.dtype, np.integer):
    return labels.astype(np.int32)
  return labels
