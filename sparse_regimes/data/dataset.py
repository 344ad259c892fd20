"""Labelled images in host memory, their order in an epoch, their scaling."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Per channel, of CIFAR-10's training pixels divided by 255.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@dataclasses.dataclass(frozen=True)
class Normalize:
  r"""Scales uint8 pixels to zero mean and unit variance, in float32.

  .. math:: y = (x / 255 - \mu_c) / \sigma_c

  Equal ones have equal hashes, so a program is compiled once for them.

  Args:
    mean: of each channel's training pixels divided by 255.
    std: their standard deviation.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.data import normalize
    >>> white = normalize(jnp.full((1, 3), 255, jnp.uint8))
    >>> print(f"{white[0, 0]:.3f}")
    2.059
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]

  def __call__(self, images: jax.Array) -> jax.Array:
    """uint8 ``[..., c]`` to float32 of the same shape."""
    of_channel = (1,) * (images.ndim - 1) + (-1,)
    mean = jnp.array(self.mean, jnp.float32).reshape(of_channel)
    std = jnp.array(self.std, jnp.float32).reshape(of_channel)
    return (images.astype(jnp.float32) / 255.0 - mean) / std

  @classmethod
  def of(cls, images: Any) -> "Normalize":
    """With the statistics of these images, uint8 ``[n, h, w, c]``.

    A channel that is the same everywhere is only shifted. Images that are read
    when they are wanted are read once.
    """
    chunks = images.chunks() if hasattr(images, "chunks") else [images]
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for chunk in chunks:
      for c in range(len(counts)):
        counts[c] += np.bincount(chunk[..., c].ravel(), minlength=256)
    shares = counts / counts[0].sum()
    values = np.arange(256) / 255
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    std = np.where(std < 1e-6, 1.0, std)
    return cls(tuple(mean.tolist()), tuple(std.tolist()))


# Of CIFAR-10, as published.
normalize = Normalize(CIFAR10_MEAN, CIFAR10_STD)


class Dataset(NamedTuple):
  """A train and a test split as NumPy arrays.

  Attributes:
    train_images: uint8 ``[n, h, w, c]``, or what is indexed as that is.
    train_labels: int32 ``[n]``, in ``[0, num_classes)``.
    test_images: uint8 ``[m, h, w, c]``, alike.
    test_labels: int32 ``[m]``.
    num_classes: the number of classes.
    source: where the bytes came from, for people to read.
    normalize: scales its images; None: by what the training split has.
    class_names: in the order of their numbers, where they have names.

  Example:
    >>> import numpy as np
    >>> from sparse_regimes.data import Dataset
    >>> images, labels = np.zeros((2, 8, 8, 3), np.uint8), np.arange(2)
    >>> data = Dataset(images, labels, images, labels, 2, source="mine")
    >>> data.preprocess(images).dtype
    dtype('float32')
  """

  train_images: Any
  train_labels: np.ndarray
  test_images: Any
  test_labels: np.ndarray
  num_classes: int
  source: str
  normalize: Normalize | None = None
  class_names: tuple[str, ...] = ()

  @property
  def preprocess(self) -> Normalize:
    """What scales its images: as given, or by its training split."""
    return self.normalize or Normalize.of(self.train_images)


def check_dataset(data: Dataset) -> None:
  """Raises a ``ValueError`` for what no run could train on.

  Args:
    data: from anywhere.
  """
  if not isinstance(data, Dataset):
    raise ValueError(f"it must give a Dataset, got {type(data).__name__}")
  for split, images, labels in (
    ("train", data.train_images, data.train_labels),
    ("test", data.test_images, data.test_labels),
  ):
    dtype = getattr(images, "dtype", type(images).__name__)
    shape = getattr(images, "shape", ())
    if len(shape) != 4 or dtype != np.uint8:
      raise ValueError(
        f"{split}_images must be uint8 [n, h, w, c], got {dtype} {shape}"
      )
    if shape[1:] != data.train_images.shape[1:] or not len(images):
      raise ValueError(
        f"both splits must have images, of one shape, got"
        f" {data.train_images.shape} and {data.test_images.shape}"
      )
    if np.shape(labels) != images.shape[:1] or not np.issubdtype(
      labels.dtype, np.integer
    ):
      raise ValueError(
        f"{split}_labels must be {len(images)} integers, got"
        f" {getattr(labels, 'dtype', type(labels).__name__)}"
        f" {np.shape(labels)}"
      )
    if labels.min() < 0 or labels.max() >= data.num_classes:
      raise ValueError(
        f"{split}_labels must be in [0, {data.num_classes}), got"
        f" {labels.min()} to {labels.max()}"
      )


def epoch_indices(
  seed: int, epoch: int, num_examples: int, batch_size: int
) -> np.ndarray:
  """The batches of one epoch: a permutation that only (seed, epoch) decide.

  The last ``num_examples % batch_size`` of the permutation are dropped.

  Args:
    seed: the run's seed.
    epoch: counts from 0.
    num_examples: size of the training split.
    batch_size: examples a step.

  Returns:
    int32 ``[num_examples // batch_size, batch_size]``.

  Example:
    >>> from sparse_regimes.data import epoch_indices
    >>> epoch_indices(seed=0, epoch=0, num_examples=5, batch_size=2).shape
    (2, 2)
  """
  order = np.random.default_rng((seed, epoch)).permutation(num_examples)
  num_steps = num_examples // batch_size
  kept = order[: num_steps * batch_size]
  return kept.reshape(num_steps, batch_size).astype(np.int32)
