"""Run folders in a bucket; here the bucket is in memory."""

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem
from journal_test import record

from sparse_regimes import config as configs
from sparse_regimes.errors import InputError
from sparse_regimes.journal import read_records
from sparse_regimes.report import draw_curves
from sparse_regimes.workdir import check_workdir, free_workdir, open_workdir
from sparse_regimes.writers import MetricWriter


@pytest.fixture
def bucket():
  for protocol in ("gs", "gcs"):
    fsspec.register_implementation(protocol, Bucket, clobber=True)
  return epath.Path("gs://bucket")


class Bucket(MemoryFileSystem):
  protocol = ("gs", "gcs")
  store: dict = {}  # noqa: RUF012  # as the class above has it


def test_a_run_s_files_are_objects(bucket):
  workdir, config = bucket / "runs" / "a", configs.load("smoke")
  check_workdir(workdir, config)
  records = [record(1, 0.5), record(2, 0.6)]
  with (
    open_workdir(workdir, config),
    MetricWriter(workdir, []) as writer,
  ):
    writer.write(records)
    draw_curves(records, workdir / "curves.png")
  assert {p.name for p in workdir.iterdir()} == {
    "config.json",
    "curves.png",
    "metrics.jsonl",
  }
  assert read_records(workdir / "metrics.jsonl") == records
  check_workdir(workdir, config)
  with pytest.raises(InputError, match=r"seed \(was 0, now 4\)"):
    check_workdir(workdir, configs.load("smoke", ["seed=4"]))
  assert free_workdir(workdir) == bucket / "runs" / "a-2"
