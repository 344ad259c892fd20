"""``tfds:NAME``: an image set that tensorflow-datasets has prepared."""

from pathlib import Path
from typing import Any

import numpy as np

from sparse_regimes.data import tfds
from sparse_regimes.data.dataset import Dataset
from sparse_regimes.data.streaming import LazyImages

_TEST = ("test", "validation")


def load(name: str, data_dir: Path) -> Dataset:
  """Reads a prepared directory, or prepares one where TensorFlow is installed.

  Args:
    name: such as ``mnist``, ``cifar10/3.0.2``, or with rules for the two splits
      in tensorflow-datasets' own words: ``mnist:train[:80%],train[80%:]``. By
      default ``train`` and ``test`` (or ``validation``).
    data_dir: looked through first, then ``$TFDS_DATA_DIR`` and
      ``~/tensorflow_datasets``.

  Raises:
    ValueError: in one line, if it is not there and cannot be prepared, or has
      no images with labels.
  """
  builder, (train_rule, test_rule) = prepared(name, data_dir)
  features = builder.info.features
  if not {"image", "label"} <= set(features):
    raise ValueError(f"it must have image and label, got {', '.join(features)}")
  train_images, train_labels = _split(builder, train_rule)
  test_images, test_labels = _split(builder, test_rule)
  return Dataset(
    train_images,
    train_labels,
    test_images,
    test_labels,
    num_classes=features["label"].num_classes,
    class_names=tuple(features["label"].names),
    source=f"tensorflow-datasets directory {builder.data_dir}, {train_rule} and"
    f" {test_rule}",
  )


def prepared(name: str, data_dir: Path) -> tuple[Any, tuple[str, str]]:
  """What is prepared under a name, and the rules of its two splits.

  Args:
    name: as above, of whatever kind of data.
    data_dir: likewise.
  """
  name, _, rules = name.partition(":")
  builder = _builder(name, data_dir)
  train_rule, comma, test_rule = rules.partition(",")
  if rules and not comma:
    raise ValueError(f"split rules must be TRAIN,TEST, got {rules!r}")
  if not rules:
    train_rule = "train"
    there = [s for s in _TEST if s in builder.info.splits]
    if not there:
      raise ValueError(
        f"it has the splits {', '.join(builder.info.splits)}; say which are to"
        f" be train and test: tfds:{name}:train[:80%],train[80%:]"
      )
    test_rule = there[0]
  return builder, (train_rule, test_rule)


def _builder(name: str, data_dir: Path) -> Any:
  import tensorflow_datasets as library  # slow, and so not before it is wanted

  roots = tfds.roots(data_dir)
  for root in roots:
    found = sorted((root / name).glob("**/dataset_info.json"))
    if found:  # the highest version
      return library.builder_from_directory(found[-1].parent)
  try:
    import tensorflow  # noqa: F401
  except ImportError as error:
    raise ValueError(
      f"no prepared {name} in {', '.join(map(str, roots))}, and to prepare it"
      f" needs TensorFlow ({error}): {tfds.INSTALL}"
    ) from error
  builder = library.builder(name, data_dir=data_dir)
  builder.download_and_prepare()
  return builder


def _split(builder: Any, rule: str) -> tuple[Any, np.ndarray]:
  """Images and labels of a split.

  Files of array records can be read in any order, so their images are read when
  they are wanted; the labels are read at once, without the pixels.
  """
  if builder.info.file_format.value != "array_record":
    return _arrays(tfds.examples(builder, rule), rule)
  from tensorflow_datasets import decode

  plain = builder.as_data_source(
    rule, decoders={"image": decode.SkipDecoding()}
  )
  labels = np.array([int(example["label"]) for example in plain], np.int32)
  source = builder.as_data_source(rule)
  first = np.asarray(source[0]["image"]) if len(source) else np.zeros((0, 0, 0))

  def read(number: int) -> np.ndarray:
    image = np.asarray(source[number]["image"])
    if image.shape != first.shape:
      raise ValueError(
        f"its images must have one shape, got {first.shape} and {image.shape}"
        f" in {rule!r}"
      )
    return image

  return LazyImages(read, np.arange(len(labels)), first.shape), labels


def _arrays(examples: Any, rule: str) -> tuple[np.ndarray, np.ndarray]:
  images, labels = [], []
  for example in examples:
    images.append(np.asarray(example["image"]))
    labels.append(int(example["label"]))
  shapes = {image.shape for image in images}
  if len(shapes) != 1:
    raise ValueError(
      f"its images must have one shape, got {len(shapes)} in {rule!r}"
    )
  return np.stack(images), np.array(labels, np.int32)
