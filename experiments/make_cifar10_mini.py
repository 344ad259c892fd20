"""Writes the images of ``cifar10_mini`` that come with the package.

  python experiments/make_cifar10_mini.py [--data_dir=DIR]

Reads the full CIFAR-10 through the package (``data/cifar10.py`` says where it
is looked for) and keeps the first images of each class in official order. Takes
seconds, and writes the same pixels and labels each time: the SHA-256 that it
prints must be ``mini.SHA256``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from sparse_regimes.data import cifar10, mini

NUM_TRAIN = 1280
NUM_TEST = 256


def first_of_each_class(labels: np.ndarray, num_examples: int) -> np.ndarray:
  """Indices, ascending, of the first examples of each of ten classes.

  Where ten does not divide ``num_examples``, the lower classes have one more.
  """
  quotient, remainder = divmod(num_examples, 10)
  chosen = [
    np.flatnonzero(labels == label)[: quotient + (label < remainder)]
    for label in range(10)
  ]
  return np.sort(np.concatenate(chosen))


def main() -> None:
  """Writes two sheets and the labels into the package."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--data_dir", help="where CIFAR-10 is or shall be kept")
  dataset = cifar10.load(parser.parse_args().data_dir)
  train = first_of_each_class(dataset.train_labels, NUM_TRAIN)
  test = first_of_each_class(dataset.test_labels, NUM_TEST)

  folder = Path(mini.__file__).parent / "cifar10_mini"
  folder.mkdir(exist_ok=True)
  sheets = {
    "train.png": dataset.train_images[train],
    "test.png": dataset.test_images[test],
  }
  for name, images in sheets.items():
    Image.fromarray(mini.to_sheet(images)).save(folder / name, optimize=True)
  labels = {
    "train": dataset.train_labels[train].tolist(),
    "test": dataset.test_labels[test].tolist(),
  }
  (folder / "labels.json").write_text(json.dumps(labels) + "\n")
  print(
    "SHA-256",
    mini.digest(
      dataset.train_images[train],
      dataset.train_labels[train],
      dataset.test_images[test],
      dataset.test_labels[test],
    ),
  )


if __name__ == "__main__":
  main()
