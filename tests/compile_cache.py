"""Compiled programs: made in less time, and kept for the next run."""

import hashlib
import platform
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
XLA = metadata.version("jaxlib")
# What was not used for longest goes first.
MAX_BYTES = 1 << 30


def folder() -> str:
  """Below ``.cache``: for each XLA, processor, and way to split the search."""
  try:
    processor = Path("/proc/cpuinfo").read_text()
    features = [s for s in processor.splitlines() if s.startswith("flags")][:1]
  except OSError:
    features = []
  split = (ROOT / "sparse_regimes" / "kernels" / "sharding.py").read_text()
  kind = (platform.machine(), platform.processor(), *features, split)
  digest = hashlib.sha256("\n".join(kind).encode()).hexdigest()[:8]
  return str(ROOT / ".cache" / "xla" / f"{XLA}-{digest}")


def fast_flags(flags: str) -> str:
  """XLA's flags, with its older way to emit operations: half the time.

  From 0.11 on there is no such way, and a process that asks for it ends.
  """
  older = "--xla_cpu_use_fusion_emitters=false"
  if XLA.startswith("0.10.") and older not in flags:
    flags = f"{flags} {older}".strip()
  return flags


def prune(most: int = MAX_BYTES) -> None:
  """Deletes programs that were read or made longest ago, beyond ``most``."""
  files = sorted(
    (ROOT / ".cache" / "xla").glob("*/*"),
    key=lambda path: path.stat().st_atime,
    reverse=True,
  )
  size = 0
  for path in files:
    size += path.stat().st_size
    if size > most:
      path.unlink()
