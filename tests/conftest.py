"""Settings every test runs under, and what keeps the suite fast.

``tests/README.md`` says which fixture a new test takes.
"""

import collections
import fcntl
import gc
import os

from compile_cache import fast_flags, folder, prune

# The environment, so that processes that tests start have these settings, too.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Workers, processes and later runs compile a program once among them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder())
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# The address of a function that says how the search is split over devices; in
# another process it is another one. `folder` knows what the function says.
os.environ["JAX_REMOVE_CUSTOM_PARTITIONING_PTR_FROM_CACHE_KEY"] = "1"
# Most time goes into compiling programs that then run for a moment.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["XLA_FLAGS"] = fast_flags(os.environ.get("XLA_FLAGS", ""))

import json
from pathlib import Path

import chex
import hypothesis
import jax
import numpy as np
import pytest
import running

# Not the environment: processes that tests start have one device.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
  "fixed", deadline=None, derandomize=True, max_examples=40
)
# make fuzz
hypothesis.settings.register_profile(
  "fuzz", deadline=None, max_examples=10_000, database=None
)
hypothesis.settings.load_profile("fixed")

PARITY = Path(__file__).parent / "parity"


class Arrays:
  """A parity file: arrays by name, JSON by name, all below a prefix."""

  def __init__(self, name: str):
    with np.load(PARITY / f"{name}.npz", allow_pickle=False) as file:
      self._arrays = {key: file[key] for key in file.files}

  def __getitem__(self, key: str) -> np.ndarray:
    return self._arrays[key]

  def json(self, key: str):
    return json.loads(str(self._arrays[key]))

  def below(self, prefix: str) -> dict[str, np.ndarray]:
    return {
      key.removeprefix(prefix): value
      for key, value in self._arrays.items()
      if key.startswith(prefix)
    }


@pytest.fixture(scope="session")
def parity():
  return Arrays


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
  """``once(name, make)``: a folder to read or to copy.

  The first worker makes it; ``make`` takes the path, which is not there yet.
  """
  base = tmp_path_factory.getbasetemp()
  if worker_id != "master":
    base = base.parent

  def get(name, make):
    folder, done = base / name, base / f"{name}.done"
    with open(base / f"{name}.lock", "w") as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not done.exists():
        make(folder)
        done.touch()
    return folder

  return get


@pytest.fixture(scope="session")
def trained(once):
  """The folder of a tiny run of two epochs, to read or to copy."""
  return once(
    "trained",
    lambda folder: running.run(
      folder, "--config.train.epochs=2", "--config.log.page=True"
    ),
  )


@pytest.fixture(autouse=True)
def _fresh_trace_counter():
  """chex counts traces by name, across the cases of one test."""
  chex.clear_trace_counter()


@pytest.fixture(autouse=True)
def _optimised(request):
  """Compiles as a user's program is compiled, where a test is marked so."""
  if request.node.get_closest_marker("optimised") is None:
    yield
    return
  jax.config.update("jax_disable_most_optimizations", False)
  yield
  jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="module")
def _drop_programs():
  """Programs of one file are of no use to the next, and take gigabytes."""
  yield
  jax.clear_caches()


def pytest_collection_finish():
  """What is imported stays, so the collector need not look through it."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


def pytest_sessionfinish(session):
  """Once, by the process that waits for the workers."""
  if not hasattr(session.config, "workerinput"):
    prune()


def pytest_terminal_summary(terminalreporter):
  """Names the ten dearest tests, so that somebody looks when one is new."""
  seconds = collections.Counter()
  for reports in terminalreporter.stats.values():
    for report in reports:
      if hasattr(report, "duration") and hasattr(report, "nodeid"):
        seconds[report.nodeid.rpartition("/")[2]] += report.duration
  dearest = [f"{name} {s:.0f} s" for name, s in seconds.most_common(10)]
  terminalreporter.write_line(f"ten dearest: {', '.join(dearest)}")
