"""A data set by the name that a config gives it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparse_regimes.data import (
  cifar10,
  cifar100,
  image_folder,
  mini,
  npz,
  tfds_sets,
)
from sparse_regimes.data.dataset import (
  Dataset,
  check_dataset,
  normalize,
)
from sparse_regimes.data.release import one_line
from sparse_regimes.data.streaming import LazyImages, is_streamed
from sparse_regimes.errors import InputError, did_you_mean
from sparse_regimes.files import expanded
from sparse_regimes.references import is_reference, resolve

# Training and test images of those that are known before they are read.
SIZES = {
  "cifar10": (50_000, 10_000),
  "cifar100": (50_000, 10_000),
  "cifar10_mini": (1_280, 256),
}
DESCRIBED = {
  "cifar10": "50,000 and 10,000 images of 32 x 32, found or fetched",
  "cifar100": "as many of 100 classes, found or fetched",
  "cifar10_mini": "1,280 and 256 of them, which come with the package",
  "npz:PATH": "train_images, train_labels, test_images, test_labels",
  "folder:PATH": "train/CLASS/IMAGE and test/CLASS/IMAGE; data.image_size",
  "tfds:NAME": "prepared by tensorflow-datasets; tfds:NAME:TRAIN,TEST",
  "PATH.py:FUNCTION": "or package.module:FUNCTION, which returns a Dataset",
}
_KINDS = ("npz", "folder", "tfds")


def check_name(name: str) -> None:
  """Raises a ``ValueError`` for what is no data set's name."""
  kind, colon, _ = name.partition(":")
  if name in SIZES or (colon and kind in _KINDS) or is_reference(name):
    return
  raise ValueError(
    f"name must be one of {', '.join(DESCRIBED)}, got {name!r}"
    f"{did_you_mean(name, SIZES)}"
  )


def load(
  name: str,
  data_dir: str,
  *,
  image_size: int = 0,
  stream: str = "never",
  log: Callable[[str], None] = print,
) -> Dataset:
  """Reads a data set, and checks that a run can train on it.

  Args:
    name: one of ``DESCRIBED``.
    data_dir: where sets that have names lie; empty: the usual places.
    image_size: of ``folder:``.
    stream: whether images of ``folder:`` and ``tfds:`` are read when they are
      wanted, see :func:`sparse_regimes.data.streaming.is_streamed`.
    log: takes a line at a time.

  Returns:
    uint8 images, with what scales them: CIFAR-10's published mean and standard
    deviation, or those of all training images. Where images are read when they
    are wanted, nothing: who needs it asks for ``preprocess``.

  Raises:
    InputError: naming ``data.name`` and what is wrong.
  """
  if name == "cifar10_mini":
    return mini.load()._replace(normalize=normalize)
  if name == "cifar10":
    data = cifar10.load(data_dir or None, log=log)
    return data._replace(normalize=normalize)
  try:
    check_name(name)
    kind, _, rest = name.partition(":")
    if name == "cifar100":
      data = cifar100.load(data_dir, log=log)
    elif is_reference(name):
      data = resolve(name, "data.name")()
    elif kind == "npz":
      data = npz.load(expanded(rest, "data.name"))
    elif kind == "folder":
      data = image_folder.load(
        expanded(rest, "data.name"), image_size=image_size
      )
    else:
      data = tfds_sets.load(rest, Path(cifar10.folder(data_dir)))
    check_dataset(data)
    if not is_streamed(stream, data.train_images):
      data = data._replace(
        train_images=_in_memory(data.train_images),
        test_images=_in_memory(data.test_images),
      )
      data = data._replace(normalize=data.preprocess)
  except InputError:
    raise
  # Files and functions of others: any exception may come.
  except Exception as error:
    text = str(error) if type(error) is ValueError else one_line(error)
    raise InputError(f"data.name {name}: {' '.join(text.split())}") from error
  return data


def _in_memory(images: Any) -> Any:
  return np.asarray(images) if isinstance(images, LazyImages) else images
