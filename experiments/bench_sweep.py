"""Times a budget sweep against plain evaluations at the same ratios.

Usage:
  python experiments/bench_sweep.py [--network=10x1] [--images=10000]
    [--ratios=20]

A sweep also measures calibration and every site. Both take turns at each ratio,
so that the quotient holds on a noisy machine; compilation is left out. Writes
``results/bench_sweep-PLATFORM.json``.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from bench import counted, write_results

from sparse_regimes import (
  TrainState,
  WideResNet,
  controllers,
  make_eval_step,
)
from sparse_regimes.analysis.budget_sweep import make_sweep_step, sweep
from sparse_regimes.data.dataset import normalize
from sparse_regimes.runs.evaluate import evaluate, make_batches
from sparse_regimes.runs.mesh import make_mesh
from sparse_regimes.training.optimizer import sgd


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--network", default="10x1")
  parser.add_argument("--images", type=int, default=10_000)
  parser.add_argument("--ratios", type=int, default=20)
  parser.add_argument("--batch_size", type=int, default=500)
  args = parser.parse_args()
  depth, widen = map(int, args.network.split("x"))
  dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
  model = WideResNet(depth, widen, dtype=dtype)
  key = jax.random.key(0)
  state = TrainState.create(
    jax.jit(model.init)(key, jnp.zeros((1, 32, 32, 3)), 1.0),
    tx=sgd(0.1),
    controller=controllers.constant(),
    rng=key,
  )
  rng = np.random.default_rng(0)
  batches = make_batches(
    {
      "images": rng.integers(0, 256, (args.images, 32, 32, 3), np.uint8),
      "labels": rng.integers(0, 10, args.images).astype(np.int32),
    },
    args.batch_size,
    make_mesh(args.batch_size, num_devices=1),
  )
  eval_step = make_eval_step(model.apply, preprocess=normalize)
  sweep_step = make_sweep_step(model.apply, preprocess=normalize)
  evaluate(eval_step, state, batches[:1], 1.0)
  sweep(sweep_step, state, batches[:2], [1.0])
  ratios = np.geomspace(0.01, 1, args.ratios).tolist()
  seconds = {"evaluations": 0.0, "sweep": 0.0}
  for i, ratio in enumerate(counted(ratios)):
    calls = {
      "evaluations": lambda r=ratio: evaluate(eval_step, state, batches, r),
      "sweep": lambda r=ratio: sweep(sweep_step, state, batches, [r]),
    }
    # Neither is always the first.
    for name in sorted(calls, reverse=bool(i % 2)):
      started = time.perf_counter()
      calls[name]()
      seconds[name] += time.perf_counter() - started
  row = {
    "network": f"WRN-{depth}-{widen}",
    "images": args.images,
    "ratios": args.ratios,
    "seconds": seconds,
    "sweep_over_evaluations": seconds["sweep"] / seconds["evaluations"],
  }
  print(f"a sweep takes {row['sweep_over_evaluations']:.3f} times as long")
  write_results(
    f"bench_sweep-{jax.default_backend()}", [row], ["jax", "jaxlib"]
  )


if __name__ == "__main__":
  main()
