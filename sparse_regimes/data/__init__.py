"""Where images come from."""

from sparse_regimes.data import cifar10, mini
from sparse_regimes.data.dataset import (
  CIFAR10_MEAN,
  CIFAR10_STD,
  Dataset,
  epoch_indices,
  normalize,
)

__all__ = [
  "CIFAR10_MEAN",
  "CIFAR10_STD",
  "Dataset",
  "cifar10",
  "epoch_indices",
  "mini",
  "normalize",
]
