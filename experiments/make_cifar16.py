"""CIFAR-10 at 16 x 16, for studies that need many runs.

Usage:
  python experiments/make_cifar16.py [--data_dir=DIR] [--out=runs/cifar16.npz] \
    [--num_train=20000]

A pixel is the mean of four, rounded. The first training images and all 10,000
test images, as ``npz:PATH`` reads them.
"""

import argparse
from pathlib import Path

import numpy as np

from sparse_regimes.data import cifar10


def halved(images: np.ndarray) -> np.ndarray:
  """Means over squares of 2 x 2, uint8 ``[n, h, w, c]``."""
  n, height, width, channels = images.shape
  squares = images.reshape(n, height // 2, 2, width // 2, 2, channels)
  return np.rint(squares.mean((2, 4), np.float32)).astype(np.uint8)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", default=None)
  parser.add_argument("--out", type=Path, default=Path("runs/cifar16.npz"))
  parser.add_argument("--num_train", type=int, default=20_000)
  args = parser.parse_args()
  images = cifar10.load(args.data_dir)
  args.out.parent.mkdir(parents=True, exist_ok=True)
  np.savez_compressed(
    args.out,
    train_images=halved(images.train_images[: args.num_train]),
    train_labels=images.train_labels[: args.num_train],
    test_images=halved(images.test_images),
    test_labels=images.test_labels,
  )


if __name__ == "__main__":
  main()
