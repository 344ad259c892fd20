"""Where compiled programs are kept from one run of the tests to the next."""

import hashlib
import platform
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Of one XLA for one kind of processor; what was not used longest goes first.
MAX_BYTES = 1 << 30


def folder() -> str:
  """Below ``.cache``, one for each XLA and kind of processor."""
  try:
    processor = Path("/proc/cpuinfo").read_text()
    features = [s for s in processor.splitlines() if s.startswith("flags")][:1]
  except OSError:
    features = []
  kind = (platform.machine(), platform.processor(), *features)
  digest = hashlib.sha256("\n".join(kind).encode()).hexdigest()[:8]
  name = f"{metadata.version('jaxlib')}-{digest}"
  return str(ROOT / ".cache" / "xla" / name)
