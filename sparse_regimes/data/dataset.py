"""Labelled images in host memory, their order in an epoch, their scaling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Per channel, of CIFAR-10's training pixels divided by 255.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


class Dataset(NamedTuple):
  """A train and a test split as NumPy arrays.

  Attributes:
    train_images: uint8 ``[n, h, w, c]``.
    train_labels: int32 ``[n]``, in ``[0, num_classes)``.
    test_images: uint8 ``[m, h, w, c]``.
    test_labels: int32 ``[m]``.
    num_classes: the number of classes.
    source: where the bytes came from, for people to read.
  """

  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray
  num_classes: int
  source: str


def normalize(images: jax.Array) -> jax.Array:
  r"""Scales uint8 pixels to zero mean and unit variance, in float32.

  .. math:: y = (x / 255 - \mu_c) / \sigma_c

  with CIFAR-10's per-channel mean and standard deviation.

  Args:
    images: uint8 ``[..., 3]``.

  Returns:
    float32, the same shape.

  Example:
    >>> import jax.numpy as jnp
    >>> white = normalize(jnp.full((1, 3), 255, jnp.uint8))
    >>> print(f"{white[0, 0]:.3f}")
    2.059
  """
  of_channel = (1,) * (images.ndim - 1) + (-1,)
  mean = jnp.array(CIFAR10_MEAN, jnp.float32).reshape(of_channel)
  std = jnp.array(CIFAR10_STD, jnp.float32).reshape(of_channel)
  return (images.astype(jnp.float32) / 255.0 - mean) / std


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
    >>> epoch_indices(seed=0, epoch=0, num_examples=5, batch_size=2).shape
    (2, 2)
  """
  order = np.random.default_rng((seed, epoch)).permutation(num_examples)
  num_steps = num_examples // batch_size
  kept = order[: num_steps * batch_size]
  return kept.reshape(num_steps, batch_size).astype(np.int32)
