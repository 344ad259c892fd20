import contextlib
import gzip
import io
import random
import tarfile
import tracemalloc

import pytest

from sparse_regimes.data import tarball
from sparse_regimes.data.release import UnavailableError

LIMITS = {"folder/a.bin": 1000, "folder/b.bin": 1000}
A, B = (b"a" * 1000, b"b" * 10)


def write(path, *members):
  """Members are (name, content) pairs or headers of no content."""
  with tarfile.open(path, "w:gz") as archive:
    for member in members:
      if isinstance(member, tarfile.TarInfo):
        archive.addfile(member)
      else:
        header = tarfile.TarInfo(member[0])
        header.size = len(member[1])
        archive.addfile(header, io.BytesIO(member[1]))
  return path


def link(name, target, kind):
  header = tarfile.TarInfo(name)
  header.type = kind
  header.linkname = target
  return header


def test_reads_the_named_members(tmp_path):
  path = write(
    tmp_path / "x.tar.gz",
    ("folder/readme.html", b"?"),
    ("folder/b.bin", B),
    ("../folder/a.bin", b"elsewhere"),
    ("/folder/a.bin", b"elsewhere"),
    link("folder/c.bin", "/etc/passwd", tarfile.SYMTYPE),
    ("folder/a.bin", A),
  )
  members = tarball.read(path, LIMITS)
  assert members == {"folder/a.bin": A, "folder/b.bin": B}
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  ("members", "message"),
  [
    ([("folder/a.bin", A)], "lacks folder/b.bin"),
    ([], "lacks folder/a.bin, folder/b.bin"),
    ([("folder/a.bin", A + b"a")], "a.bin has 1001 bytes, more than 1000"),
    (
      [link("folder/a.bin", "/etc/passwd", tarfile.SYMTYPE)],
      "a.bin is not a regular file",
    ),
    (
      [("folder/b.bin", B), link("folder/a.bin", "folder/b.bin", b"1")],
      "a.bin is not a regular file",
    ),
    ([link("folder/a.bin", "", tarfile.FIFOTYPE)], "not a regular file"),
    ([("bomb", bytes(1 << 21))], "unpacks to more than 1050576 bytes"),
    ([("../a.bin", A), ("/folder/b.bin", B)], "lacks folder/a.bin"),
  ],
)
def test_refuses(members, message, tmp_path):
  path = write(tmp_path / "x.tar.gz", *members)
  with pytest.raises(UnavailableError, match=message) as caught:
    tarball.read(path, LIMITS)
  assert caught.value.reason.startswith(str(path))
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_refuses_what_is_no_archive(content, tmp_path):
  path = tmp_path / "x.tar.gz"
  path.write_bytes(content)
  with pytest.raises(UnavailableError, match="cannot be read"):
    tarball.read(path, LIMITS)


def test_damage_anywhere_is_a_reason(tmp_path):
  path = write(tmp_path / "x.tar.gz", ("folder/a.bin", A), ("folder/b.bin", B))
  content = path.read_bytes()
  for end in range(len(content)):
    path.write_bytes(content[:end])
    # What comes after the last member is not looked at.
    with contextlib.suppress(UnavailableError):
      members = tarball.read(path, LIMITS)
      assert members == {"folder/a.bin": A, "folder/b.bin": B}
  for position in range(len(content)):
    damaged = bytearray(content)
    damaged[position] ^= 0x55
    path.write_bytes(damaged)
    with contextlib.suppress(
      UnavailableError
    ):  # contents are verified elsewhere
      tarball.read(path, LIMITS)


def test_damage_inside_a_large_member_is_a_reason(tmp_path):
  """Decompression fails in the middle of a member, not at its header."""
  content = bytes(random.Random(0).choices(range(64), k=300_000))
  path = write(tmp_path / "x.tar.gz", ("a.bin", content))
  damaged = bytearray(path.read_bytes())
  middle = len(damaged) * 3 // 4
  damaged[middle : middle + 2000] = b"\xff" * 2000
  path.write_bytes(damaged)
  with pytest.raises(UnavailableError, match="cannot be read"):
    tarball.read(path, {"a.bin": 1 << 20})


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, b"L"])
def test_a_bomb_takes_neither_memory_nor_time(kind, tmp_path):
  """Half a gigabyte that a header announces, and that is there."""
  header = tarfile.TarInfo("folder/other.bin")
  header.type = kind
  header.size = 1 << 29
  path = tmp_path / "x.tar.gz"
  with gzip.open(path, "wb", compresslevel=1) as file:
    file.write(header.tobuf())
    for _ in range(8):  # enough to be past the limit
      file.write(bytes(1 << 20))
  tracemalloc.start()
  with pytest.raises(UnavailableError, match="unpacks to more than"):
    tarball.read(path, LIMITS)
  assert tracemalloc.get_traced_memory()[1] < 1 << 23
  tracemalloc.stop()
