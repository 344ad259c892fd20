"""Which images a run trains on, and on which it is evaluated."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sparse_regimes.data import named
from sparse_regimes.data.dataset import Dataset, Normalize
from sparse_regimes.errors import InputError, in_range, one_of, section_of

# Other evaluation sets may not have these names.
RESERVED = ("train", "test", "validation", "ema", "")


@dataclasses.dataclass
class Splits:
  """What is trained and evaluated on.

  Attributes:
    train: the training and the test split, as far as the run uses them.
    others: images and labels of other evaluation sets, by name.
  """

  train: Dataset
  others: dict[str, tuple[Any, np.ndarray]]


def load(
  config: Any, log: Callable[[str], None], scale: Normalize | None = None
) -> Splits:
  """The data of ``config.data`` and ``config.eval.sets``, fetched if need be.

  Args:
    config: the run's.
    log: takes a line at a time.
    scale: what the run scales images with; by default the set's own, or what
      follows from all of its training images.

  Raises:
    InputError: naming the field.
  """
  data = _read(config, config.data.name, log)
  data = data._replace(normalize=scale or data.preprocess)
  sizes = len(data.train_labels), len(data.test_labels)
  num_train, num_test = num_examples(config, sizes)
  check_batch(config, sizes)
  test = data.test_images[:num_test], data.test_labels[:num_test]
  # Held-out images are the last of the training split.
  end = sizes[0] - config.data.num_validation
  others = {}
  if config.data.num_validation:
    others["validation"] = data.train_images[end:], data.train_labels[end:]
  if config.data.evaluate_on == "validation":
    test = (
      data.train_images[end - num_test : end],
      data.train_labels[end - num_test : end],
    )
  for name, source in _sets(config):
    others[name] = _other(config, name, source, data, log)
  used = data._replace(
    train_images=data.train_images[:num_train],
    train_labels=data.train_labels[:num_train],
    test_images=test[0],
    test_labels=test[1],
  )
  return Splits(used, others)


def num_examples(config: Any, splits: tuple[int, int]) -> tuple[int, int]:
  """Training and test images of ``config.data``: the first of each split.

  ``splits`` are those of the whole set.

  The last ``num_validation`` training images are held out. With ``evaluate_on``
  ``validation`` the last of the others are, too, and take the place of the test
  split.
  """
  cfg = config.data
  with section_of("data"):
    one_of("evaluate_on", cfg.evaluate_on, ("test", "validation"))
    for field, size in zip(("num_train", "num_test"), splits, strict=True):
      in_range(field, cfg[field], 0, size)
    in_range("num_validation", cfg.num_validation, 0, splits[0] - 1)
  num_test = cfg.num_test or splits[1]
  held_out = cfg.num_validation
  if cfg.evaluate_on == "validation":
    held_out += num_test
  num_train = cfg.num_train or splits[0] - held_out
  if num_train < 1 or num_train + held_out > splits[0]:
    raise InputError(
      f"data.num_train must leave {held_out} of the {splits[0]} training images"
      f" for validation (data.num_validation, data.evaluate_on), got"
      f" {cfg.num_train or 'all'}"
    )
  return num_train, num_test


def check_batch(config: Any, splits: tuple[int, int]) -> None:
  """Raises an ``InputError`` unless an epoch has a batch."""
  num_train, _ = num_examples(config, splits)
  if config.train.batch_size > num_train:
    raise InputError(
      f"train.batch_size must be at most the {num_train} training images of"
      f" {config.data.name}, got {config.train.batch_size}"
    )


def check_sets(config: Any) -> None:
  """Raises an ``InputError`` for other evaluation sets that are none."""
  for _, source in _sets(config):
    try:
      named.check_name(source)
    except ValueError as error:
      raise InputError(f"eval.sets: {error}") from error


def with_sources(sets: str, changed: Callable[[str, str], str]) -> str:
  """``eval.sets`` with ``changed(name, source)`` in place of each source.

  Example:
    >>> from sparse_regimes.tasks.classification.splits import with_sources
    >>> with_sources("a=npz:b; c=d", lambda name, source: source.upper())
    'a=NPZ:B;c=D'
  """
  return ";".join(
    f"{name}={changed(name, source)}" for name, _, source in _entries(sets)
  )


def _entries(sets: str) -> Iterator[tuple[str, str, str]]:
  """Name, equals sign and data set of each entry, whatever they are."""
  for entry in filter(str.strip, sets.split(";")):
    name, equals, source = map(str.strip, entry.partition("="))
    yield name, equals, source


def _sets(config: Any) -> Iterator[tuple[str, str]]:
  """Name and data set of each of ``NAME=DATA;NAME=DATA``."""
  names = set(RESERVED)
  for name, equals, source in _entries(config.eval.sets):
    if not name.isidentifier() or name in names or not source.strip(":"):
      raise InputError(
        "eval.sets must be NAME=DATA;NAME=DATA, with names of their own other"
        f" than {', '.join(RESERVED[:-1])}, got {name + equals + source!r}"
      )
    names.add(name)
    yield name, source


def _other(
  config: Any,
  name: str,
  source: str,
  data: Dataset,
  log: Callable[[str], None],
) -> tuple[Any, np.ndarray]:
  """The test split of another set, which has such images and such labels."""
  try:
    other = _read(config, source, log)
  except InputError as error:
    raise InputError(f"eval.sets, {name}: {error}") from error
  wanted, found = data.train_images.shape[1:], other.test_images.shape[1:]
  if wanted != found or other.num_classes > data.num_classes:
    raise InputError(
      f"eval.sets, {name}: it must have images {[*wanted]} of at most"
      f" {data.num_classes} classes, as {config.data.name} has, got"
      f" {[*found]} of {other.num_classes}"
    )
  labels = other.test_labels
  if data.class_names and other.class_names:
    # Each set numbers its classes by itself.
    if missing := set(other.class_names) - set(data.class_names):
      raise InputError(
        f"eval.sets, {name}: its classes must be among those of"
        f" {config.data.name}, got {', '.join(sorted(missing))}"
      )
    numbers = [data.class_names.index(each) for each in other.class_names]
    labels = np.array(numbers, np.int32)[labels]
  return other.test_images, labels


def _read(config: Any, name: str, log: Callable[[str], None]) -> Dataset:
  cfg = config.data
  return named.load(
    name, cfg.dir, image_size=cfg.image_size, stream=cfg.stream, log=log
  )
