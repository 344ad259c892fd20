import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from sparse_regimes.data import store
from sparse_regimes.data.release import AbsentError, UnavailableError

# Runs one process of the package on the toy release.
PROGRAM = """
import ast, os, pathlib, signal, sys, time
from sparse_regimes.data import store
from sparse_regimes.data.release import CIFAR10
directory, files, num_records, md5, prelude = map(
  ast.literal_eval, sys.argv[1:]
)
release = CIFAR10._replace(num_records=num_records, md5=md5)
directory = pathlib.Path(directory)
files = {name: (pathlib.Path(files) / name).read_bytes() for name in md5}
exec(prelude)
print(store.write(files, directory, release))
"""


def start(toy, tmp_path, prelude=""):
  toy.write_binary(tmp_path / "source")
  arguments = [
    str(tmp_path / "data"),
    str(tmp_path / "source"),
    toy.release.num_records,
    dict(toy.release.md5),
    prelude,
  ]
  return subprocess.Popen(
    [sys.executable, "-c", PROGRAM, *map(repr, arguments)],
    stdout=subprocess.PIPE,
    text=True,
  )


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
  "name",
  [
    "",
    "cifar-10-batches-bin",
    "cifar-10-batches-bin-2",
    "cifar-10-batches-bin-10",
  ],
)
def test_read_finds_each_place(name, toy, tmp_path):
  toy.write_binary(tmp_path / name)
  batches = store.read(tmp_path, toy.release, print)
  assert batches.files == toy.files
  assert batches.source == f"official binary batches in {tmp_path / name}"


def test_read_without_files(toy, tmp_path):
  (tmp_path / "cifar-10-batches-bin").mkdir()
  with pytest.raises(AbsentError, match=r"no \*\.bin files"):
    store.read(tmp_path, toy.release, print)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "0 bytes, not 61460; MD5 is d41d8cd98f00b204e9800998ecf8427e"),
    (bytes(61459), "61459 bytes, not 61460"),
    (bytes(61461), "61461 bytes, not 61460"),
    (bytes(61460), "data_batch_4.bin: MD5 is"),
    (None, "data_batch_4.bin is missing"),
    ("fifo", "data_batch_4.bin is missing or not a regular file"),
  ],
)
def test_read_names_what_is_wrong(content, message, toy, tmp_path):
  toy.write_binary(tmp_path)
  path = tmp_path / "data_batch_4.bin"
  path.unlink()
  if content == "fifo":
    os.mkfifo(path)
  elif content is not None:
    path.write_bytes(content)
  with pytest.raises(UnavailableError, match=message) as caught:
    store.read(tmp_path, toy.release, print)
  assert not isinstance(caught.value, AbsentError)
  assert "data_batch_5" not in caught.value.reason


def test_write_takes_the_first_free_name(toy, tmp_path):
  (tmp_path / "cifar-10-batches-bin").mkdir()
  (tmp_path / "cifar-10-batches-bin" / "batches.meta.txt").touch()
  (tmp_path / "cifar-10-batches-bin-2").touch()
  (tmp_path / "cifar-10-batches-bin-3").symlink_to(tmp_path / "nowhere")
  folder = store.write(toy.files, tmp_path, toy.release)
  assert folder == tmp_path / "cifar-10-batches-bin-4"
  assert contents(folder) == toy.files
  assert store.read(tmp_path, toy.release, print).files == toy.files


def test_written_batches_may_be_shared(toy, tmp_path):
  """The scratch directory is private, what comes of it is not."""
  mask = os.umask(0o022)
  try:
    folder = store.write(toy.files, tmp_path, toy.release)
  finally:
    os.umask(mask)
  assert folder.stat().st_mode & 0o777 == 0o755


def test_write_leaves_nothing_when_the_disk_is_full(toy, tmp_path, monkeypatch):
  def refuse(_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, "fsync", refuse)
  with pytest.raises(OSError, match="No space left"):
    store.write(toy.files, tmp_path, toy.release)
  assert os.listdir(tmp_path) == []


def test_write_yields_to_a_process_that_was_faster(toy, tmp_path, monkeypatch):
  rename = os.rename

  def lose(staged, target):
    monkeypatch.setattr(os, "rename", rename)
    toy.write_binary(target)
    rename(staged, target)

  monkeypatch.setattr(os, "rename", lose)
  folder = store.write(toy.files, tmp_path, toy.release)
  assert folder == tmp_path / "cifar-10-batches-bin"
  assert os.listdir(tmp_path) == ["cifar-10-batches-bin"]


def test_write_fails_when_nothing_can_be_renamed(toy, tmp_path, monkeypatch):
  def refuse(*_):
    raise PermissionError(errno.EACCES, "Permission denied")

  monkeypatch.setattr(os, "rename", refuse)
  with pytest.raises(PermissionError):
    store.write(toy.files, tmp_path, toy.release)
  assert os.listdir(tmp_path) == []


@pytest.mark.run
def test_processes_at_once_share_one_folder(toy, tmp_path):
  # Each waits until all have written their files and are about to rename.
  prelude = """
rename = os.rename
def wait(*arguments):
  while len(list(directory.glob('.*/cifar-10-batches-bin'))) < 3:
    time.sleep(0.01)
  time.sleep(0.1)
  rename(*arguments)
os.rename = wait
"""
  processes = [start(toy, tmp_path, prelude) for _ in range(3)]
  outputs = [process.communicate(timeout=60)[0] for process in processes]
  folder = tmp_path / "data" / "cifar-10-batches-bin"
  assert outputs == [f"{folder}\n"] * 3
  assert contents(folder) == toy.files
  assert os.listdir(tmp_path / "data") == ["cifar-10-batches-bin"]


@pytest.mark.run
def test_killed_process_does_no_harm(toy, tmp_path):
  prelude = "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)"
  process = start(toy, tmp_path, prelude)
  process.communicate(timeout=60)
  assert process.returncode == -signal.SIGKILL
  data = tmp_path / "data"
  [leftover] = data.iterdir()
  assert leftover.name.startswith(".cifar-10-batches-bin.")
  with pytest.raises(AbsentError):
    store.read(data, toy.release, print)

  # It might be in use elsewhere, so it stays for a day.
  store.write(toy.files, data, toy.release)
  assert leftover.exists()
  two_days_ago = time.time() - 2 * 24 * 60 * 60
  os.utime(leftover, (two_days_ago, two_days_ago))
  with store.scratch(data):
    pass
  assert os.listdir(data) == ["cifar-10-batches-bin"]
