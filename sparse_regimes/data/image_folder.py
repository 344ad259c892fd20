"""``folder:PATH``: images in a folder for each class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sparse_regimes.data.dataset import Dataset

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
# The second split goes by any of these names.
_TEST = ("test", "val", "validation")
_GREY = {"1", "L", "LA"}


def load(path: Path, *, image_size: int = 0) -> Dataset:
  """Reads ``PATH/train/CLASS/*`` and ``PATH/test/CLASS/*``.

  Classes are numbered in the order of their names. Images are grey if all are,
  and else have three channels; transparency is dropped. Their order is one that
  nothing but their number decides, so that the first of a split are of all
  classes.

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
  splits = [_read(split, is_grey, image_size) for split in files]
  (train_images, train_labels), (test_images, test_labels) = splits
  return Dataset(
    train_images,
    train_labels,
    test_images,
    test_labels,
    num_classes=len(classes),
    source=f"{path}, classes {', '.join(classes[:10])}"
    + (", ..." if len(classes) > 10 else ""),
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


def _read(
  files: list[tuple[Path, int]], is_grey: bool, image_size: int
) -> tuple[np.ndarray, np.ndarray]:
  order = np.random.default_rng(len(files)).permutation(len(files))
  images: list[np.ndarray] = []
  for path, _ in (files[i] for i in order):
    with _opened(path) as image:
      pixels = np.asarray(
        _scaled(image, image_size).convert("L" if is_grey else "RGB")
      )
    if images and pixels.shape[:2] != images[0].shape[:2]:
      first = files[order[0]][0]
      raise ValueError(
        f"{first} is {_size(images[0])} and {path} {_size(pixels)};"
        " data.image_size brings all to one size"
      )
    images.append(pixels)
  labels = np.array([files[i][1] for i in order], np.int32)
  stacked = np.stack(images)
  return stacked[..., None] if is_grey else stacked, labels


def _size(pixels: np.ndarray) -> str:
  return f"{pixels.shape[1]} x {pixels.shape[0]}"


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
