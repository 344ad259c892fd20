"""Whatever lies where data should be is read, or refused by one error.

``make fuzz`` tries 10,000 of each.
"""

import tempfile
from pathlib import Path

import pytest
from damage import spoilt
from hypothesis import given
from hypothesis import strategies as st

from sparse_regimes.data import archive, npm, store
from sparse_regimes.data.binary import verify
from sparse_regimes.data.release import UnavailableError


def quiet(_):
  pass


def read_or_refuse(read, toy, folder):
  """What is read is the release to the last byte, or it is an error."""
  try:
    batches = read(folder, toy.release, quiet)
    verify(batches, toy.release)
  except UnavailableError:
    return
  assert batches.files == toy.files


@pytest.mark.parametrize("name", ["data_batch_2.bin", "test_batch.bin"])
@given(data=st.data())
def test_binary_batches(toy, name, data):
  with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary) / "cifar-10-batches-bin"
    toy.write_binary(folder)
    (folder / name).write_bytes(data.draw(spoilt(toy.files[name])))
    read_or_refuse(store.read, toy, Path(temporary))


@given(data=st.data())
def test_archive(toy, data):
  with tempfile.TemporaryDirectory() as temporary:
    path = Path(temporary) / toy.release.archive_name
    if not hasattr(test_archive, "content"):
      toy.write_archive(path)
      test_archive.content = path.read_bytes()
    path.write_bytes(data.draw(spoilt(test_archive.content)))
    read_or_refuse(archive.read, toy, path.parent)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data_batch_1.png", "test_lables.json"])
@given(data=st.data())
def test_images_and_labels_of_the_npm_package(toy, name, data):
  with tempfile.TemporaryDirectory() as temporary:
    files = npm_files(toy)
    for other, content in files.items():
      (Path(temporary) / other).write_bytes(content)
    (Path(temporary) / name).write_bytes(data.draw(spoilt(files[name])))
    read_or_refuse(npm.read_folder, toy, Path(temporary))


def npm_files(toy, cache={}):  # noqa: B006  # made once
  return cache.setdefault("files", toy.npm_files())
