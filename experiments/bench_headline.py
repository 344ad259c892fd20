"""How much faster the selection is than a sort: over processes and threads.

Usage:
  python experiments/bench_headline.py [--processes=5]

The time of a sort differs between processes by far more than that of the
search. So a claim wants several of them, with one thread and with all: each is
started anew, times the mask of 32 x 65536 float32 (ReLU of normal data, keep
ratio 0.2), the mask by ``lax.top_k`` and a scatter and, where torch is there,
by ``torch.topk``, in turns. Writes ``results/bench_headline-cpu.json`` with the
ratios' ranges and the machine's caches.
"""

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from bench import interleaved_milliseconds, write_results
from bench_selection import known_threshold_mask, make_data, torch_call

from sparse_regimes import topk_mask

RATIO = 0.2
_ONE_THREAD = {
  "OMP_NUM_THREADS": "1",
  "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def measure() -> dict[str, float]:
  """Milliseconds of each way, in this process."""
  scores = make_data()["relu of normal"]
  x, ratio = jnp.asarray(scores), jnp.float32(RATIO)
  calls: dict[str, Any] = {
    name: functools.partial(
      jax.jit(functools.partial(topk_mask, axis=1, implementation=how)),
      *(x, ratio),
    )
    for name, how in (("search", None), ("lax.top_k", "lax_top_k"))
  }
  calls["floor"] = functools.partial(known_threshold_mask, x, ratio)
  torch_topk = torch_call(scores, RATIO)
  if torch_topk is not None:
    calls["torch.topk"] = torch_topk
  return interleaved_milliseconds(calls, rounds=15)


def in_a_process(threads: int) -> dict[str, Any]:
  """The same in a process of its own, on so many processors."""
  cores = sorted(os.sched_getaffinity(0))[:threads]
  done = subprocess.run(
    [sys.executable, __file__, "--here"],
    env=os.environ | (_ONE_THREAD if threads == 1 else {}),
    preexec_fn=functools.partial(os.sched_setaffinity, 0, cores),
    stdout=subprocess.PIPE,
    check=True,
  )
  times = json.loads(done.stdout)
  return {
    "threads": threads,
    "milliseconds": times,
    "over_search": {
      name: time / times["search"]
      for name, time in times.items()
      if name != "search"
    },
  }


def caches() -> dict[str, str]:
  """Sizes of the first processor's caches, as the system tells them."""
  found = {}
  for cache in sorted(
    Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")
  ):
    level, kind, size = (
      (cache / name).read_text().strip() for name in ("level", "type", "size")
    )
    found[f"L{level} {kind.lower()}"] = size
  return found


def processor() -> str:
  for line in Path("/proc/cpuinfo").read_text().splitlines():
    if line.startswith("model name"):
      return line.partition(":")[2].strip()
  return ""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--processes", type=int, default=5)
  parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.here:
    print(json.dumps(measure()))
    return
  settings = sorted({1, len(os.sched_getaffinity(0))})
  rows = []
  for _, threads in itertools.product(range(args.processes), settings):
    rows.append(in_a_process(threads))
    print(rows[-1], flush=True)
  ranges = {
    name: [
      min(row["over_search"][name] for row in rows),
      max(row["over_search"][name] for row in rows),
    ]
    for name in rows[0]["over_search"]
  }
  for name, (least, most) in ranges.items():
    print(f"{name}: {least:.1f} to {most:.1f} times as long as the search")
  packages = ["jax", "jaxlib"]
  if "torch.topk" in ranges:
    packages.append("torch")
  write_results(
    "bench_headline-cpu",
    rows,
    packages,
    over_search=ranges,
    processor=processor(),
    caches=caches(),
  )


if __name__ == "__main__":
  main()
