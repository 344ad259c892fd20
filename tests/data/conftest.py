"""A toy release of 6 x 20 random images, in each form that CIFAR-10 has."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from sparse_regimes.data.release import CIFAR10, Release

NUM_RECORDS = 20


class Toy(NamedTuple):
  """The images, and what the package must find of them."""

  images: np.ndarray  # [6, 20, 32, 32, 3]
  labels: np.ndarray  # [6, 20]
  files: dict[str, bytes]
  release: Release

  @staticmethod
  def to_png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()

  def write_binary(self, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in self.files.items():
      (folder / name).write_bytes(content)

  def write_archive(self, path: Path) -> None:
    write_tar(
      path,
      {f"cifar-10-batches-bin/{key}": x for key, x in self.files.items()},
    )

  def npm_files(self) -> dict[str, bytes]:
    files = {
      "train_lables.json": json.dumps(self.labels[:5].ravel().tolist()),
      "test_lables.json": json.dumps(self.labels[5].tolist()),
    }
    pngs = {
      name.replace(".bin", ".png"): self.to_png(images.reshape(-1, 1024, 3))
      for name, images in zip(self.files, self.images, strict=True)
    }
    return {name: text.encode() for name, text in files.items()} | pngs

  def write_npm_folder(self, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in self.npm_files().items():
      (folder / name).write_bytes(content)

  def write_npm_tarball(self, path: Path) -> None:
    write_tar(path, {f"package/{k}": x for k, x in self.npm_files().items()})


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, "w:gz") as archive:
    for name, content in members.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="session")
def toy() -> Toy:
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, NUM_RECORDS, 32, 32, 3), np.uint8)
  labels = rng.integers(0, 10, (6, NUM_RECORDS))
  files = {}
  for name, batch, batch_labels in zip(
    CIFAR10.md5, images, labels, strict=True
  ):
    # The format written out a byte at a time: the oracle of these tests.
    content = bytearray()
    for image, label in zip(batch, batch_labels, strict=True):
      content.append(label)
      for channel in range(3):
        for row in range(32):
          content += bytes(image[row, :, channel].tolist())
    files[name] = bytes(content)
  release = CIFAR10._replace(
    num_records=NUM_RECORDS,
    md5={key: hashlib.md5(x).hexdigest() for key, x in files.items()},
    # Nobody listens there.
    archive_url="http://127.0.0.1:1/cifar-10-binary.tar.gz",
  )
  return Toy(images, labels, files, release)


@pytest.fixture(autouse=True)
def _nothing_outside(tmp_path, monkeypatch):
  """No data, network or programs other than those a test provides."""
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  monkeypatch.setenv("PATH", str(tmp_path / "programs"))
  monkeypatch.setenv("no_proxy", "*")
  monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
