import importlib.resources
import shutil
import sys

import numpy as np
import pytest

from sparse_regimes.data import dataset as dataset_lib
from sparse_regimes.data import mini
from sparse_regimes.errors import InputError


def test_shapes_and_classes():
  dataset = mini.load()
  assert dataset.train_images.shape == (1280, 32, 32, 3)
  assert dataset.test_images.shape == (256, 32, 32, 3)
  assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
  assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int32
  assert dataset.num_classes == 10
  np.testing.assert_array_equal(np.bincount(dataset.train_labels), [128] * 10)
  np.testing.assert_array_equal(
    np.bincount(dataset.test_labels), [26] * 6 + [25] * 4
  )


def test_starts_like_the_official_batches():
  """Frog, truck, truck, deer, ... and cat, ship, ship, airplane, ..."""
  dataset = mini.load()
  train_labels = [6, 9, 9, 4, 1, 1, 2, 7, 8, 3, 4, 7, 7, 2, 9, 9]
  np.testing.assert_array_equal(dataset.train_labels[:16], train_labels)
  test_labels = [3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8]
  np.testing.assert_array_equal(dataset.test_labels[:16], test_labels)
  # The first pixels of the official train and test files.
  np.testing.assert_array_equal(dataset.train_images[0, 0, 0], [59, 62, 63])
  np.testing.assert_array_equal(dataset.test_images[0, 0, 0], [158, 112, 49])


def test_has_the_statistics_of_the_whole():
  pixels = mini.load().train_images / 255.0
  np.testing.assert_allclose(
    pixels.mean((0, 1, 2)), dataset_lib.CIFAR10_MEAN, atol=0.01
  )
  np.testing.assert_allclose(
    pixels.std((0, 1, 2)), dataset_lib.CIFAR10_STD, atol=0.01
  )


def test_splits_are_disjoint():
  dataset = mini.load()
  images = np.concatenate([dataset.train_images, dataset.test_images])
  assert len({image.tobytes() for image in images}) == 1280 + 256


def test_sheet_inverts():
  images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
  sheet = mini.to_sheet(images)
  assert sheet.shape == (64, 1024, 3)
  np.testing.assert_array_equal(sheet[:32, 32:64], images[1])
  np.testing.assert_array_equal(sheet[32:, :32], images[32])
  np.testing.assert_array_equal(mini.from_sheet(sheet), images)


def _truncate(folder):
  path = folder / "train.png"
  path.write_bytes(path.read_bytes()[:-1000])


def _relabel(folder):
  path = folder / "labels.json"
  path.write_text(path.read_text().replace("6, 9, 9", "9, 6, 9", 1))


def _drop_a_label(folder):
  path = folder / "labels.json"
  path.write_text(path.read_text().replace("[6, 9", "[9", 1))


def _remove(folder):
  (folder / "test.png").unlink()


def _swap_formats(folder):
  (folder / "test.png").write_bytes((folder / "labels.json").read_bytes())


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (_truncate, "cannot be read"),
    (_relabel, "is damaged .* expected " + mini.SHA256),
    (_drop_a_label, "1280 integers"),
    (_remove, "No such file"),
    (_swap_formats, "cannot be read"),
  ],
)
def test_damaged_install_is_named(damage, message, tmp_path, monkeypatch):
  package = importlib.resources.files("sparse_regimes.data")
  shutil.copytree(package / "cifar10_mini", tmp_path / "cifar10_mini")
  damage(tmp_path / "cifar10_mini")
  monkeypatch.setattr(
    sys.modules["importlib.resources"], "files", lambda _: tmp_path
  )
  with pytest.raises(InputError, match=message) as caught:
    mini.load()
  assert "install sparse_regimes again" in str(caught.value)
  assert "\n" not in str(caught.value)
