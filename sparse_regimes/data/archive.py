"""Ways: the official archive, on disk or downloaded."""

import hashlib
import http.client
import urllib.request
from pathlib import Path

from sparse_regimes.data import binary, store, tarball
from sparse_regimes.data.release import (
  FOLDER,
  AbsentError,
  Batches,
  Log,
  Release,
  UnavailableError,
)

# To connect, and between two packets; not for the whole.
_TIMEOUT_SECONDS = 10
_CHUNK_BYTES = 1 << 18


def read(data_dir: Path, release: Release, log: Log) -> Batches:
  """Way: the official archive in the data directory.

  Raises:
    AbsentError: when there is none.
    UnavailableError: when it is damaged.
  """
  path = data_dir / release.archive_name
  if not path.is_file():
    raise AbsentError(f"no {path}", f"download {release.archive_url} to there")
  log(f"CIFAR-10: reading {path}")
  return Batches(_unpack(path, release), f"official archive {path}")


def download(data_dir: Path, release: Release, log: Log) -> Batches:
  """Way: the official archive from its host.

  Raises:
    UnavailableError: when the host cannot be reached or sends something else.
    OSError: when the data directory cannot be written.
  """
  url = release.archive_url
  log(f"CIFAR-10: downloading {url}")
  with store.scratch(data_dir) as workspace:
    path = workspace / release.archive_name
    try:
      found = _fetch(url, path, limit=_max_archive_bytes(release))
    except (OSError, http.client.HTTPException, ValueError) as error:
      raise UnavailableError(
        f"{url} could not be downloaded: {error}",
        f"download it elsewhere and put it at {data_dir / path.name}",
      ) from error
    if found != release.archive_sha256:
      raise UnavailableError(
        f"{url} sent a file with SHA-256 {found}, expected "
        f"{release.archive_sha256}",
        "look for a proxy that answers in the host's place",
      )
    return Batches(_unpack(path, release), f"official archive from {url}")


def _fetch(url: str, path: Path, limit: int) -> str:
  """Downloads to ``path`` with a progress bar; returns the SHA-256."""
  import tqdm  # here, as hardly any run downloads

  digest = hashlib.sha256()
  num_bytes = 0
  with (
    urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,
    open(path, "wb") as file,
    tqdm.tqdm(
      desc=path.name,
      total=response.length,
      unit="B",
      unit_scale=True,
      disable=None,  # shown on a terminal only
    ) as progress,
  ):
    expected = response.length
    while chunk := response.read(_CHUNK_BYTES):
      num_bytes += len(chunk)
      if num_bytes > limit:
        raise ValueError(f"it is longer than {limit} bytes")
      file.write(chunk)
      digest.update(chunk)
      progress.update(len(chunk))
  if expected is not None and num_bytes < expected:
    raise ValueError(f"it broke off after {num_bytes} of {expected} bytes")
  return digest.hexdigest()


def _unpack(path: Path, release: Release) -> dict[str, bytes]:
  num_bytes = release.num_records * binary.RECORD_BYTES
  limits = {f"{FOLDER}/{name}": num_bytes for name in release.md5}
  members = tarball.read(path, limits)
  return {name: members[f"{FOLDER}/{name}"] for name in release.md5}


def _max_archive_bytes(release: Release) -> int:
  """Compressed images are hardly longer than they are plain."""
  plain = len(release.md5) * release.num_records * binary.RECORD_BYTES
  return plain + (1 << 20)
