"""Times the full training step: masked, at ratio 1, and without any mask.

Usage:
  python experiments/bench_step.py [--networks=16x2x128,28x4x32] [--rounds=7]

Each network is depth x widen x batch. The programs take turns, so that the
ratios hold on a noisy machine. Writes ``results/bench_step-PLATFORM.json``.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
from bench import counted, interleaved_milliseconds, write_results

from sparse_regimes import TrainState, WideResNet, controllers, make_train_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.training.optimizer import sgd


def make_call(
  depth: int, widen: int, batch_size: int, keep_ratio: float | None
) -> Any:
  """A step at a fixed budget; None is a program without any mask.

  Returns:
    A function of no arguments that runs a step, and the bytes of temporary
    memory its program takes.
  """
  dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
  # At a constant ratio of 1 XLA drops its own search, and no other.
  how = "xla" if keep_ratio is None else None
  model = WideResNet(depth, widen, dtype=dtype, implementation=how)

  def apply_fn(variables, images, ratio, **arguments):
    ratio = 1.0 if keep_ratio is None else ratio
    return model.apply(variables, images, ratio, **arguments)

  tx = sgd(0.1)
  controller = controllers.constant(1.0 if keep_ratio is None else keep_ratio)
  key = jax.random.key(0)
  images = jax.random.randint(key, (batch_size, 32, 32, 3), 0, 256)
  batch = {
    "images": images.astype(jnp.uint8),
    "labels": jnp.arange(batch_size) % 10,
  }
  state = TrainState.create(
    jax.jit(model.init)(key, jnp.zeros((1, 32, 32, 3)), 1.0),
    tx=tx,
    controller=controller,
    rng=key,
  )
  step: Any = make_train_step(
    apply_fn, tx, controller, preprocess=normalize, donate_state=False
  )
  compiled = step.lower(state, batch).compile()
  temporary = compiled.memory_analysis().temp_size_in_bytes
  return functools.partial(compiled, state, batch), temporary


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--networks", default="16x2x128,28x4x32")
  parser.add_argument("--keep_ratio", type=float, default=0.2)
  parser.add_argument("--rounds", type=int, default=7)
  args = parser.parse_args()
  rows = []
  for network in counted(args.networks.split(",")):
    depth, widen, batch_size = map(int, network.split("x"))
    programs = {
      name: make_call(depth, widen, batch_size, ratio)
      for name, ratio in (
        ("masked", args.keep_ratio),
        ("ratio 1", 1.0),
        ("no mask", None),
      )
    }
    times = interleaved_milliseconds(
      {name: call for name, (call, _) in programs.items()}, rounds=args.rounds
    )
    temporary = {name: bytes_ for name, (_, bytes_) in programs.items()}
    row = {
      "network": f"WRN-{depth}-{widen}",
      "batch_size": batch_size,
      "keep_ratio": args.keep_ratio,
      "milliseconds": times,
      "masked_over_ratio_1": times["masked"] / times["ratio 1"],
      "masked_over_no_mask": times["masked"] / times["no mask"],
      "temporary_bytes": temporary,
      "temporary_masked_over_no_mask": temporary["masked"]
      / max(1, temporary["no mask"]),
      "images_per_second": 1e3 * batch_size / times["masked"],
    }
    rows.append(row)
    print(
      f"{row['network']} batch {batch_size}:"
      + "".join(f"  {name} {t:.0f} ms" for name, t in times.items())
      + f"  masked/ratio 1 {row['masked_over_ratio_1']:.3f}"
      + f"  masked/no mask {row['masked_over_no_mask']:.3f}"
      + f"  memory {row['temporary_masked_over_no_mask']:.3f}",
      flush=True,
    )
  write_results(f"bench_step-{jax.default_backend()}", rows, ["jax", "jaxlib"])


if __name__ == "__main__":
  main()
