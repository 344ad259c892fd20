"""Times seeds trained together (``jax.vmap``) against one after another.

Usage:
  python experiments/bench_seeds.py [--networks=10x1x64] [--seeds=2,4]

The same step, once for each seed in turn, and once vmapped over the states of
all. Both take turns. Writes ``results/bench_seeds-PLATFORM.json``.
"""

import argparse
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from bench import counted, interleaved_milliseconds, write_results

from sparse_regimes import TrainState, WideResNet, controllers, make_train_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.optimizer import sgd


def make_calls(
  depth: int, widen: int, batch_size: int, num_seeds: int
) -> dict[str, Any]:
  """A step of every seed, both ways, as functions of no arguments."""
  dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
  model = WideResNet(depth, widen, dtype=dtype)
  tx, controller = sgd(0.1), controllers.strategy1(keep_init=0.2)
  images = jax.random.randint(
    jax.random.key(0), (batch_size, 32, 32, 3), 0, 256
  ).astype(jnp.uint8)
  batch = {"images": images, "labels": jnp.arange(batch_size) % 10}
  init = jax.jit(model.init)
  states = [
    TrainState.create(
      init(jax.random.key(seed), jnp.zeros((1, 32, 32, 3)), 1.0),
      tx=tx,
      controller=controller,
      rng=jax.random.key(seed),
    )
    for seed in range(num_seeds)
  ]
  step = make_train_step(
    model.apply, tx, controller, preprocess=normalize, donate_state=False
  )
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  together = jax.jit(jax.vmap(step, in_axes=(0, None)))
  return {
    "one by one": lambda: [step(state, batch) for state in states],
    "together": lambda: together(stacked, batch),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--networks", default="10x1x64")
  parser.add_argument("--seeds", default="2,4")
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  rows = []
  pairs = itertools.product(
    args.networks.split(","), map(int, args.seeds.split(","))
  )
  for network, num_seeds in counted([*pairs]):
    depth, widen, batch_size = map(int, network.split("x"))
    calls = make_calls(depth, widen, batch_size, num_seeds)
    times = interleaved_milliseconds(calls, rounds=args.rounds)
    row = {
      "network": f"WRN-{depth}-{widen}",
      "batch_size": batch_size,
      "seeds": num_seeds,
      "milliseconds": times,
      "together_over_one_by_one": times["together"] / times["one by one"],
    }
    rows.append(row)
    print(row, flush=True)
  write_results(f"bench_seeds-{jax.default_backend()}", rows, ["jax", "jaxlib"])


if __name__ == "__main__":
  main()
