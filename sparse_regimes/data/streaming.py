"""Sets too large to hold: images that are read when they are wanted."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

STREAMS = ("auto", "always", "never")
# Larger training splits are read as they are needed; smaller ones lie on the
# devices as a whole.
LARGE_BYTES = 2 << 30
# Batches that are being read, and that wait to be taken.
_THREADS = 8
_WAITING = 8


class LazyImages:
  """Looks like a uint8 array ``[n, h, w, c]``; an index reads what it names.

  Args:
    read: the image of a number, uint8 ``[h, w, c]``.
    numbers: of the images, int ``[n]``.
    shape: of one image.

  Example:
    >>> import numpy as np
    >>> from sparse_regimes.data.streaming import LazyImages
    >>> read = lambda i: np.full((1, 1, 1), i)
    >>> images = LazyImages(read, range(9), (1, 1, 1))
    >>> images[2:][np.array([0, 3])].ravel()
    array([2, 5], dtype=uint8)
  """

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self,
    read: Callable[[int], np.ndarray],
    numbers: Any,
    shape: tuple[int, ...],
  ):
    self._read, self._numbers = read, np.asarray(numbers)
    self.shape = (len(self._numbers), *shape)

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: Any) -> Any:
    """An image; an array for an array of indices; lazy for a slice."""
    if isinstance(index, slice):
      return LazyImages(self._read, self._numbers[index], self.shape[1:])
    if np.ndim(index) == 0:
      return self._read(int(self._numbers[index]))
    images = [self._read(int(i)) for i in self._numbers[index]]
    return np.array(images, self.dtype).reshape(-1, *self.shape[1:])

  def __array__(
    self, dtype: Any = None, copy: bool | None = None
  ) -> np.ndarray:
    """All of them."""
    if copy is False:
      raise ValueError("images that are read must be copied")
    return self[np.arange(len(self))].astype(dtype or self.dtype, copy=False)

  def chunks(self, size: int = 256) -> Iterator[np.ndarray]:
    """All of them, some at a time."""
    for start in range(0, len(self), size):
      yield np.asarray(self[start : start + size])


def is_streamed(stream: str, images: Any) -> bool:
  """Whether a training split is read as it is needed.

  Args:
    stream: of ``STREAMS``; ``auto`` goes by ``LARGE_BYTES``.
    images: the training images.

  Example:
    >>> import numpy as np
    >>> from sparse_regimes.data.streaming import is_streamed
    >>> is_streamed("auto", np.zeros((9, 2, 2, 3), np.uint8))
    False
  """
  if stream == "auto":
    return int(np.prod(images.shape)) > LARGE_BYTES
  return stream == "always"


def read_batches(
  examples: Mapping[str, Any], indices: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
  """Batches in their order, read ahead by several threads of grain.

  Args:
    examples: arrays, or what is indexed as they are, by name.
    indices: of the examples, ``[num_batches, b]``: which batch comes when is
      decided by whoever made them, so that a run goes on with the very batch.

  Yields:
    The examples of a row of ``indices``, ``[b, ...]`` each.
  """
  import grain  # not before it is wanted

  def read(number: int) -> dict[str, np.ndarray]:
    row = indices[number]
    return {name: np.asarray(array[row]) for name, array in examples.items()}

  options = grain.ReadOptions(
    num_threads=_THREADS, prefetch_buffer_size=_WAITING
  )
  batches = grain.MapDataset.range(len(indices)).map(read)
  yield from batches.to_iter_dataset(options)
