"""Named files out of a ``.tar.gz`` that nobody vouches for."""

import gzip
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from sparse_regimes.data.release import UnavailableError

# Beside the wanted members: headers, padding, a readme.
_OTHER_BYTES = 1 << 20


def read(path: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
  """Reads the named members of a gzipped tar archive into memory.

  Nothing is written to disk, so no member name or link can lead anywhere.
  Decompression stops at the sum of the limits (and some room for headers),
  whatever the archive claims or unpacks to.

  Args:
    path: the archive.
    limits: the most bytes to accept of each member, by member name.

  Returns:
    Their contents by member name.

  Raises:
    UnavailableError: when the archive is damaged, lacks a member, or holds one
      that is too large or not a regular file.
  """
  contents: dict[str, bytes] = {}
  budget = sum(limits.values()) + _OTHER_BYTES
  try:
    with (
      _BoundedGzip(path, budget) as unpacked,
      tarfile.open(fileobj=unpacked, mode="r|") as archive,
    ):
      for member in archive:
        if member.name in limits:
          content = _read_member(archive, member, limits[member.name])
          contents[member.name] = content
        if len(contents) == len(limits):
          return contents
  except (
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    OverflowError,
    ValueError,
  ) as error:
    raise UnavailableError(
      f"{path} cannot be read: {error}", "replace or remove it"
    ) from error
  missing = ", ".join(name for name in limits if name not in contents)
  raise UnavailableError(f"{path} lacks {missing}", "replace or remove it")


def _read_member(
  archive: tarfile.TarFile, member: tarfile.TarInfo, limit: int
) -> bytes:
  if not member.isreg():
    raise ValueError(f"{member.name} is not a regular file")
  if member.size > limit:
    raise ValueError(
      f"{member.name} has {member.size} bytes, more than {limit}"
    )
  stream = archive.extractfile(member)
  assert stream is not None  # it is for members that are not regular files
  return stream.read()


class _BoundedGzip(gzip.GzipFile):
  """Gives up once it has unpacked more than ``limit`` bytes."""

  def __init__(self, path: Path, limit: int):
    super().__init__(path, "rb")
    self._limit = limit

  def read(self, size: int | None = -1) -> bytes:
    content = super().read(size)
    if self.tell() > self._limit:
      raise ValueError(f"it unpacks to more than {self._limit} bytes")
    return content
