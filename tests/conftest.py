"""Settings every test runs under: eight devices, strict promotion."""

import os

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import json
from pathlib import Path

import chex
import hypothesis
import jax
import numpy as np
import pytest

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


@pytest.fixture(autouse=True)
def _fresh_trace_counter():
  """chex counts traces by name, across the cases of one test."""
  chex.clear_trace_counter()


@pytest.fixture(scope="module")
def compile_once(tmp_path_factory):
  """Processes started by a test share their programs, and have one device."""
  with pytest.MonkeyPatch.context() as patch:
    # Beside the folders of the workers, which share it.
    cache = tmp_path_factory.getbasetemp().parent / "compiled"
    patch.delenv("XLA_FLAGS", raising=False)
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    yield
