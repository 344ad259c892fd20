"""Way: a directory that tensorflow-datasets has prepared."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparse_regimes.data import binary
from sparse_regimes.data.release import (
  IMAGE_SHAPE,
  AbsentError,
  Batches,
  Log,
  Release,
  UnavailableError,
)
from sparse_regimes.errors import InputError
from sparse_regimes.files import expanded

INSTALL = "pip install 'sparse_regimes[tfds]'"


def read(data_dir: Path, release: Release, log: Log) -> Batches:
  """Way: ``cifar10/3.0.2`` under one of tensorflow-datasets' directories.

  Those are the data directory, ``$TFDS_DATA_DIR`` and
  ``~/tensorflow_datasets``. array_record files are read without TensorFlow,
  tfrecord files with it.

  Raises:
    AbsentError: when there is no such directory.
    UnavailableError: when none of them can be read.
  """
  failures = []
  where = roots(data_dir)
  for folder in (root / release.tfds_name for root in where):
    if not folder.is_dir():
      continue
    log(f"CIFAR-10: reading {folder} with tensorflow-datasets")
    try:
      source = f"tensorflow-datasets directory {folder}"
      batches = Batches(_rebuild(folder, release), source)
      binary.verify(batches, release)  # another directory may be sound
      return batches
    except UnavailableError as failure:
      failures.append(failure)
    # Foreign files in a foreign library: any exception may come.
    except Exception as error:
      failures.append(
        UnavailableError(
          f"{folder}: {type(error).__name__}: {error}", "remove it"
        )
      )
  if failures:
    raise UnavailableError(
      "; ".join(failure.reason for failure in failures),
      " or ".join(dict.fromkeys(failure.remedy for failure in failures)),
    )
  raise AbsentError(
    f"no {release.tfds_name} in {', '.join(map(str, where))}",
    "prepare it with tensorflow-datasets",
  )


def roots(data_dir: Path) -> list[Path]:
  """Where prepared directories may lie."""
  found = [data_dir]
  if environment := os.environ.get("TFDS_DATA_DIR"):
    found.append(expanded(environment, "TFDS_DATA_DIR"))
  with contextlib.suppress(InputError):  # a user without a home
    found.append(expanded("~/tensorflow_datasets", "HOME"))
  return found


def _rebuild(folder: Path, release: Release) -> dict[str, bytes]:
  try:
    # Slow to import, so only when there is something to read. Its own
    # dependencies may be missing too.
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise UnavailableError(
      f"{folder} needs tensorflow-datasets ({error})", INSTALL
    ) from error
  # tfds.load would try to reach its host, for minutes.
  builder = tfds.builder_from_directory(folder)
  identity = f"{builder.info.name}/{builder.info.version}"
  if identity != release.tfds_name:
    raise ValueError(f"it holds {identity}, not {release.tfds_name}")
  splits = {"train": release.train_names, "test": (release.test_name,)}
  sizes = {split: release.num_records * len(splits[split]) for split in splits}
  found = {key: info.num_examples for key, info in builder.info.splits.items()}
  if found != sizes:
    raise ValueError(f"its splits have {found} examples, not {sizes}")
  files: dict[str, bytes] = {}
  for split, names in splits.items():
    images, labels = _in_official_order(
      examples(builder, split), split, sizes[split]
    )
    for name, batch_images, batch_labels in zip(
      names,
      np.split(images, len(names)),
      np.split(labels, len(names)),
      strict=True,
    ):
      files[name] = binary.encode(batch_images, batch_labels)
  return files


def examples(builder: Any, split: str) -> Iterable[Mapping[str, Any]]:
  """The examples of a split in the shuffled order of its files."""
  if builder.info.file_format.value == "array_record":
    return builder.as_data_source(split=split)
  try:
    import tensorflow as tf
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise UnavailableError(
      f"{builder.data_dir} has {builder.info.file_format.value} files, which "
      f"need TensorFlow ({error})",
      INSTALL,
    ) from error
  # It would take the accelerator's memory from JAX; too late once it has.
  with contextlib.suppress(RuntimeError):
    tf.config.set_visible_devices([], "GPU")
  return tfds.as_numpy(builder.as_dataset(split=split))


def _in_official_order(
  examples: Iterable[Mapping[str, Any]], split: str, num_examples: int
) -> tuple[np.ndarray, np.ndarray]:
  """Undoes the shuffling by the ids, such as ``train_00001``."""
  images = np.zeros((num_examples, *IMAGE_SHAPE), np.uint8)
  labels = np.zeros(num_examples, np.uint8)
  for example in examples:
    position = int(example["id"].decode().removeprefix(f"{split}_"))
    images[position] = example["image"]
    labels[position] = example["label"]
  return images, labels
