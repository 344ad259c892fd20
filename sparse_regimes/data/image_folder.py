"""``folder:PATH``: images in a folder for each class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sparse_regimes.data.dataset import Dataset
from sparse_regimes.data.streaming import LazyImages
from sparse_regimes.errors import InputError, one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
# The second split goes by any of these names.
_TEST = ("test", "val", "validation")
_GREY = {"1", "L", "LA"}


def load(path: Path, *, image_size: int = 0) -> Dataset:
  """Reads ``PATH/train/CLASS/*`` and ``PATH/test/CLASS/*``.

  Classes are numbered in the order of their names. Images are grey if all are,
  and else have three channels; transparency is dropped. Their order is one that
  nothing but their number decides, so that the first of a split are of all
  classes. Of a file no more than its head is read before it is wanted.

  Args:
    path: the folder; its second split may be called ``val`` or ``validation``.
    image_size: scales the shorter side to it and cuts a square out of the
      middle; 0 takes images as they are, which then have one size.

  Raises:
    OSError: if something cannot be read.
    ValueError: if it is no such folder; names the file.
  """
  train = path / "train"
  test = next((path / n for n in _TEST if (path / n).is_dir()), path / "test")
  for split in (train, test):
    if not split.is_dir():
      raise ValueError(
        f"it must have train/CLASS/IMAGE and test/CLASS/IMAGE, but there is no"
        f" {split}"
      )
  classes = sorted(p.name for p in train.iterdir() if p.is_dir())
  files = [list(_files(split, classes)) for split in (train, test)]
  is_grey = all(mode in _GREY for mode in map(_mode, _paths(files)))
  splits = [_split(split, is_grey, image_size) for split in files]
  (train_images, train_labels), (test_images, test_labels) = splits
  return Dataset(
    train_images,
    train_labels,
    test_images,
    test_labels,
    num_classes=len(classes),
    source=f"{path}, classes {', '.join(classes[:10])}"
    + (", ..." if len(classes) > 10 else ""),
    class_names=tuple(classes),
  )


def _files(split: Path, classes: list[str]) -> Iterator[tuple[Path, int]]:
  for folder in sorted(p for p in split.iterdir() if p.is_dir()):
    if folder.name not in classes:
      raise ValueError(f"{folder} is of a class that has no training images")
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES]
    if not found:
      raise ValueError(f"{folder} has no image ({', '.join(SUFFIXES)})")
    yield from ((p, classes.index(folder.name)) for p in sorted(found))


def _paths(files: list[list[tuple[Path, int]]]) -> Iterator[Path]:
  return (path for split in files for path, _ in split)


def _mode(path: Path) -> str:
  with _opened(path) as image:
    return image.mode


def _opened(path: Path) -> Any:
  from PIL import Image, UnidentifiedImageError  # as only this needs it

  try:
    return Image.open(path)
  except UnidentifiedImageError as error:
    raise ValueError(f"{path} is no image") from error


def _split(
  files: list[tuple[Path, int]], is_grey: bool, image_size: int
) -> tuple[LazyImages, np.ndarray]:
  """Images that are read when they are wanted, and their labels."""
  order = np.random.default_rng(len(files)).permutation(len(files))
  first = files[order[0]][0]
  size = _size_of(first, image_size)
  for path, _ in files:
    if (other := _size_of(path, image_size)) != size:
      raise ValueError(
        f"{first} is {_times(size)} and {path} {_times(other)};"
        " data.image_size brings all to one size"
      )

  def read(number: int) -> np.ndarray:
    path = files[number][0]
    try:
      with _opened(path) as image:
        scaled = _scaled(image, image_size).convert("L" if is_grey else "RGB")
        return np.asarray(scaled).reshape(shape)
    except (OSError, SyntaxError, ValueError) as error:
      # It may be read in the middle of a run.
      raise InputError(
        f"data.name: {path} could not be read: {one_line(error)}"
      ) from error

  width, height = size
  shape = (height, width, 1 if is_grey else 3)
  labels = np.array([files[i][1] for i in order], np.int32)
  return LazyImages(read, order, shape), labels


def _size_of(path: Path, image_size: int) -> tuple[int, int]:
  """Width and height, of which the file's first bytes tell."""
  if image_size:
    return image_size, image_size
  with _opened(path) as image:
    return image.size


def _times(size: tuple[int, int]) -> str:
  return f"{size[0]} x {size[1]}"


def _scaled(image: Any, size: int) -> Any:
  from PIL import Image

  if not size or image.size == (size, size):
    return image
  if image.mode in ("P", "1", "LA", "RGBA"):
    image = image.convert("L" if image.mode in _GREY else "RGB")
  factor = size / min(image.size)
  width, height = (max(size, round(side * factor)) for side in image.size)
  image = image.resize((width, height), Image.Resampling.LANCZOS)
  left, top = (width - size) // 2, (height - size) // 2
  return image.crop((left, top, left + size, top + size))
