"""What the benchmarks share: timing, the machine, the result file."""

import importlib.metadata
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax

from sparse_regimes.runs.pace import format_seconds

RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")


def counted(items: Sequence[T]) -> Iterator[T]:
  """The items; after each, how many are done and the time that is left."""
  started = time.monotonic()
  for done, item in enumerate(items, start=1):
    yield item
    left = (time.monotonic() - started) / done * (len(items) - done)
    print(
      f"done        {done} of {len(items)}, about {format_seconds(left)} left",
      file=sys.stderr,
      flush=True,
    )


def interleaved_milliseconds(
  calls: dict[str, Callable[[], Any]], *, rounds: int
) -> dict[str, float]:
  """The median time of each call, the calls taking turns in changing order.

  Turns make ratios mean something on a machine whose speed wanders, and no call
  always has the caches that the same other one left.
  """
  for call in calls.values():
    jax.block_until_ready(call())
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  order = random.Random(0)
  for _ in range(rounds):
    for name in order.sample(list(calls), len(calls)):
      call = calls[name]
      started = time.perf_counter()
      jax.block_until_ready(call())
      seconds[name].append(time.perf_counter() - started)
  return {name: 1e3 * statistics.median(s) for name, s in seconds.items()}


def commit() -> str:
  """The commit of the checkout, short; empty where there is none."""
  return subprocess.run(
    ["git", "rev-parse", "--short", "HEAD"],
    capture_output=True,
    text=True,
    check=False,
    cwd=Path(__file__).parent,
  ).stdout.strip()


def write_results(
  name: str, rows: Sequence[dict], packages: Sequence[str], **setup: Any
) -> None:
  """Writes ``results/NAME.json`` with setup, machine, versions and commit."""
  content = {
    "rows": list(rows),
    "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    **setup,
    "host": f"{os.cpu_count()} cores, {platform.machine()}",
    "python": platform.python_version(),
    "versions": {p: importlib.metadata.version(p) for p in packages},
    "commit": commit(),
  }
  path = RESULTS / f"{name}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content, indent=2) + "\n")
  print(f"wrote {path}")
