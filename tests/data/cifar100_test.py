"""CIFAR-100 in small: as many classes, of a few images each."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from sparse_regimes.data import cifar100, named
from sparse_regimes.errors import InputError

RECORD = 2 + 32 * 32 * 3


@pytest.fixture
def files(monkeypatch):
  """What is published, of 2 and 1 images a class."""
  monkeypatch.setattr(cifar100, "SPLITS", {"train.bin": 2, "test.bin": 1})
  monkeypatch.setattr(cifar100, "URL", "http://127.0.0.1:1/none")
  monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
  rng = np.random.default_rng(0)
  made = {}
  for name, each in cifar100.SPLITS.items():
    rows = rng.integers(0, 256, (100 * each, RECORD), np.uint8)
    rows[:, 1] = rng.permutation(np.arange(100 * each) % 100)
    made[name] = rows
  return made


def write_folder(files, folder):
  (folder / cifar100.FOLDER).mkdir(parents=True)
  for name, rows in files.items():
    (folder / cifar100.FOLDER / name).write_bytes(rows.tobytes())


def write_archive(files, folder, monkeypatch):
  path = folder / cifar100.ARCHIVE
  with tarfile.open(path, "w:gz") as archive:
    for name, rows in files.items():
      member = tarfile.TarInfo(f"{cifar100.FOLDER}/{name}")
      member.size = rows.size
      archive.addfile(member, io.BytesIO(rows.tobytes()))
  digest = hashlib.md5(path.read_bytes()).hexdigest()
  monkeypatch.setattr(cifar100, "ARCHIVE_MD5", digest)


@pytest.mark.parametrize("packed", [False, True])
def test_images_and_fine_labels(files, tmp_path, monkeypatch, packed):
  if packed:
    write_archive(files, tmp_path, monkeypatch)
  else:
    write_folder(files, tmp_path)
  data = named.load("cifar100", str(tmp_path))
  assert data.train_images.shape == (200, 32, 32, 3)
  assert data.test_images.shape == (100, 32, 32, 3)
  assert data.num_classes == 100
  rows = files["train.bin"]
  np.testing.assert_array_equal(data.train_labels, rows[:, 1])
  # Planes of red, green and blue, row by row.
  assert data.train_images[7, 3, 5, 1] == rows[7, 2 + 1024 + 3 * 32 + 5]
  assert data.normalize is not None


def test_what_is_not_the_published_is_a_line(files, tmp_path, monkeypatch):
  with pytest.raises(InputError, match="fetch it elsewhere and put it at"):
    cifar100.load(str(tmp_path), log=lambda _: None)
  write_archive(files, tmp_path, monkeypatch)
  monkeypatch.setattr(cifar100, "ARCHIVE_MD5", "0" * 32)
  with pytest.raises(InputError, match="must have the MD5 0000"):
    cifar100.load(str(tmp_path))
  files["train.bin"][:, 1] = 0
  write_folder(files, tmp_path)
  with pytest.raises(InputError, match="must have 2 images of each of 100"):
    cifar100.load(str(tmp_path))
  (tmp_path / cifar100.FOLDER / "test.bin").write_bytes(b"short")
  with pytest.raises(InputError, match=r"test.bin of the .* must have 307400"):
    cifar100.load(str(tmp_path))
