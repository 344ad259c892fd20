"""Times seeds trained together (``jax.vmap``) against one after another.

Usage:
  python experiments/bench_seeds.py [--configs=cpu_constant,cpu_vit,cpu_mlp] \
    [--seeds=2,4] [--rounds=5]

The config's own step, once for each seed in turn, and once vmapped over the
states of all. Both take turns. Writes ``results/bench_seeds-PLATFORM.json``.
"""

import argparse
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from bench import counted, interleaved_milliseconds, write_results
from ml_collections import ConfigDict

from sparse_regimes import make_train_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory

_IMAGE_SHAPE = (32, 32, 3)


def make_calls(config: ConfigDict, num_seeds: int) -> dict[str, Any]:
  """A step of every seed, both ways, as functions of no arguments."""
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=100)
  states = []
  for seed in range(num_seeds):
    config.seed = seed
    states.append(factory.make_state(config, parts, _IMAGE_SHAPE))
  size = config.train.batch_size
  images = jax.random.randint(jax.random.key(0), (size, *_IMAGE_SHAPE), 0, 256)
  batch = {
    "images": images.astype(jnp.uint8),
    "labels": jnp.arange(size) % 10,
  }
  step = make_train_step(
    parts.model.apply,
    parts.tx,
    parts.controller,
    preprocess=normalize,
    donate_state=False,
  )
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  together = jax.jit(jax.vmap(step, in_axes=(0, None)))
  return {
    "one by one": lambda: [step(state, batch) for state in states],
    "together": lambda: together(stacked, batch),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--configs", default="cpu_constant,cpu_vit,cpu_mlp")
  parser.add_argument("--seeds", default="2,4")
  parser.add_argument("--rounds", type=int, default=5)
  args = parser.parse_args()
  rows = []
  pairs = itertools.product(
    args.configs.split(","), map(int, args.seeds.split(","))
  )
  for name, num_seeds in counted([*pairs]):
    config = configs.load(name)
    calls = make_calls(config, num_seeds)
    times = interleaved_milliseconds(calls, rounds=args.rounds)
    row = {
      "config": name,
      "network": config.model.name,
      "batch_size": config.train.batch_size,
      "seeds": num_seeds,
      "milliseconds": times,
      "together_over_one_by_one": times["together"] / times["one by one"],
    }
    rows.append(row)
    print(row, flush=True)
  write_results(f"bench_seeds-{jax.default_backend()}", rows, ["jax", "jaxlib"])


if __name__ == "__main__":
  main()
