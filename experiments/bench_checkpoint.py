"""Times what saving a checkpoint takes from training.

Usage:
  python experiments/bench_checkpoint.py [--network=28x4x32] [--rounds=5]

In each round some steps run undisturbed, then a save starts and as many steps
run beside it. What the second half takes longer is the save's cost: the copy
that holds up the loop, and the writing in the background that shares its cores.
Writes ``results/bench_checkpoint-PLATFORM.json``.
"""

import argparse
import statistics
import tempfile
import time
from typing import Any

import jax
from bench import counted, write_results
from bench_step import make_call
from etils import epath

from sparse_regimes.runs.checkpoint import Checkpoints
from sparse_regimes.runs.journal import Journal


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--network", default="28x4x32")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--steps", type=int, default=6)
  args = parser.parse_args()
  depth, widen, batch_size = map(int, args.network.split("x"))
  call, _ = make_call(depth, widen, batch_size, 0.2)
  state = call.args[0]
  num_bytes = sum(x.nbytes for x in jax.tree.leaves(state.params)) * 2
  journal = Journal()
  blocked: list[float] = []
  extra: list[float] = []
  steps: list[float] = []

  def run_steps() -> float:
    started = time.perf_counter()
    for _ in range(args.steps):
      jax.block_until_ready(call())
    return time.perf_counter() - started

  with (
    tempfile.TemporaryDirectory() as folder,
    Checkpoints(epath.Path(folder), keep=2) as checkpoints,
  ):
    for i in counted(range(args.rounds + 1)):
      undisturbed = run_steps()
      journal.step += 1
      started = time.perf_counter()
      checkpoints.save(state, journal)
      held_up = time.perf_counter() - started
      beside = run_steps()
      checkpoints.wait()
      if i:  # the first compiles and makes folders
        blocked.append(held_up)
        extra.append(held_up + beside - undisturbed)
        steps.append(undisturbed / args.steps)
  row: dict[str, Any] = {
    "network": f"WRN-{depth}-{widen}",
    "batch_size": batch_size,
    "megabytes": num_bytes / 1e6,
    "seconds_a_step": statistics.median(steps),
    "seconds_blocked": statistics.median(blocked),
    "seconds_lost": statistics.median(extra),
    "overhead_at_one_a_minute": statistics.median(extra) / 60,
  }
  print(
    f"{row['network']} batch {batch_size}: {row['megabytes']:.0f} MB, a step"
    f" {row['seconds_a_step']:.2f} s; a save holds up the loop"
    f" {row['seconds_blocked']:.2f} s and costs {row['seconds_lost']:.2f} s in"
    f" all: {row['overhead_at_one_a_minute']:.2%} at one a minute"
  )
  name = f"bench_checkpoint-{jax.default_backend()}"
  write_results(name, [row], ["jax", "jaxlib", "orbax-checkpoint"])


if __name__ == "__main__":
  main()
