import pytest
from etils import epath

from sparse_regimes.files import is_remote, write


def test_a_file_is_replaced_as_a_whole(tmp_path):
  path = epath.Path(tmp_path) / "a.txt"
  write(path, "one")
  with open(path) as reader:
    write(path, b"two")
    assert reader.read() == "one"
  assert path.read_text() == "two"
  assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_is_named(tmp_path):
  path = epath.Path(tmp_path) / "missing" / "a.txt"
  with pytest.raises(
    OSError, match=r"a\.txt could not be written: No such file"
  ):
    write(path, "one")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
  path = epath.Path(tmp_path) / "a.txt"
  write(path, "old")

  def fail(_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("os.fsync", fail)
  with pytest.raises(OSError, match="No space left on device"):
    write(path, "new")
  assert path.read_text() == "old"
  assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_buckets_are_known():
  assert is_remote(epath.Path("gs://bucket/run"))
  assert not is_remote(epath.Path("runs/gs"))
