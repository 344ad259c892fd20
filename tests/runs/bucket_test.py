"""Run folders in a bucket; here the bucket is in memory."""

import fsspec
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem
from journals import ARITHMETIC, journal_of

from sparse_regimes.errors import InputError
from sparse_regimes.reports.run_page import write_report
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.journal import read_records
from sparse_regimes.runs.trace import Trace
from sparse_regimes.runs.workdir import (
  check_workdir,
  free_workdir,
  open_workdir,
)
from sparse_regimes.runs.writers import MetricWriter


@pytest.fixture
def bucket():
  for protocol in ("gs", "gcs"):
    fsspec.register_implementation(protocol, Bucket, clobber=True)
  return epath.Path("gs://bucket")


class Bucket(MemoryFileSystem):
  protocol = ("gs", "gcs")
  store: dict = {}  # noqa: RUF012  # as the class above has it


@pytest.mark.slow
def test_a_run_s_files_are_objects(bucket):
  workdir, config = bucket / "runs" / "a", configs.load("smoke")
  check_workdir(workdir, config)
  journal = journal_of(2)
  records = journal.records
  with (
    open_workdir(workdir, config),
    MetricWriter(workdir, []) as writer,
  ):
    writer.write(records)
    Trace.of(journal, ARITHMETIC).write(workdir)
    write_report(workdir)
  assert {p.name for p in workdir.iterdir()} == {
    "config.json",
    "metrics.jsonl",
    "report.html",
    "trace.json",
  }
  assert read_records(workdir / "metrics.jsonl") == records
  check_workdir(workdir, config)
  with pytest.raises(InputError, match=r"seed \(was 0, now 4\)"):
    check_workdir(workdir, configs.load("smoke", ["seed=4"]))
  assert free_workdir(workdir) == bucket / "runs" / "a-2"
