"""Sets that are read as they are needed."""

import threading

import numpy as np
import pytest

from sparse_regimes.data import streaming
from sparse_regimes.data.dataset import Normalize

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 2), np.uint8)


def lazily(numbers=range(50), read=PIXELS.__getitem__):
  return streaming.LazyImages(read, numbers, PIXELS.shape[1:])


def test_they_look_like_the_array():
  images = lazily()
  assert (images.shape, images.dtype, len(images)) == (
    PIXELS.shape,
    np.uint8,
    50,
  )
  np.testing.assert_array_equal(np.asarray(images), PIXELS)
  np.testing.assert_array_equal(
    images[10:20][np.array([3, 0])], PIXELS[[13, 10]]
  )
  assert images[:0][np.arange(0)].shape == (0, 3, 4, 2)
  assert Normalize.of(images) == Normalize.of(PIXELS)


def test_nothing_is_read_before_it_is_wanted():
  read = []
  images = lazily(read=lambda i: read.append(i) or PIXELS[i])
  kept = images[5:9]
  assert not read
  kept[np.array([1])]
  assert read == [6]


def test_batches_come_in_their_order_however_long_each_takes():
  gate = threading.Event()

  def read(number):
    # The first image is read last.
    if number == 0:
      assert gate.wait(20)
    if number == 49:
      gate.set()
    return PIXELS[number]

  labels = np.arange(50)
  indices = np.arange(50).reshape(-1, 10)
  batches = [
    *streaming.read_batches(
      {"images": lazily(read=read), "labels": labels}, indices
    )
  ]
  assert [b["labels"].tolist() for b in batches] == indices.tolist()
  np.testing.assert_array_equal(
    np.concatenate([b["images"] for b in batches]), PIXELS
  )
  assert not [*streaming.read_batches({"labels": labels}, indices[:0])]


def test_an_image_that_cannot_be_read_is_an_error():
  def read(number):
    raise ValueError(f"image {number} is damaged")

  with pytest.raises(ValueError, match="image 3 is damaged"):
    [*streaming.read_batches({"images": lazily(read=read)}, np.array([[3]]))]


def test_large_splits_are_streamed():
  class Large:
    shape = (10**6, 64, 64, 3)

  assert streaming.is_streamed("auto", Large())
  assert not streaming.is_streamed("never", Large())
  assert not streaming.is_streamed("auto", PIXELS)
  assert streaming.is_streamed("always", PIXELS)
