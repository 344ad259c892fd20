"""Times measures against the backward pass they ride on, and modules in a step.

Usage:
  python experiments/bench_flat_minima.py [--rounds=15] [--batch_size=64]

First, for a small vision transformer and the residual MLP, everything of
``analysis.measure_layers`` against loss and gradients of the parameters on the
same images. Then a training step of each with the modules of the second paper
against the same step without them, at three keep ratios. Programs take turns,
so that quotients hold on a noisy machine. Writes
``results/bench_flat_minima-PLATFORM.json``.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
from bench import counted, interleaved_milliseconds, write_results

from sparse_regimes import TrainState, analysis, controllers, make_train_step
from sparse_regimes.data.dataset import normalize
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.training.losses import cross_entropy

BASES = {"vision_transformer": "cpu_vit", "residual_mlp": "mlp_vanilla"}
# Each module alone, and all of them.
MODULES = {
  "zeroth bias": ("model.zeroth_bias=input",),
  "restricted layer norm": ("model.norm=restricted",),
  "J-SquaredReLU": ("model.activation=jsrelu",),
  "all three": (
    "model.zeroth_bias=input",
    "model.norm=restricted",
    "model.activation=jsrelu",
  ),
  "fine-tuning": (
    "model.zeroth_bias=input",
    "model.norm=restricted_finetune",
    "model.activation=jsrelu",
    "model.mix_steps=1000000",
    "optimizer.uplift_steps=1000000",
    "train.start_from=a run",
  ),
  "shifted S": ("model.activation=s_jsrelu", "model.shift_x=1.6"),
  "synaptic noise": ("model.noise=0.1",),
}
# Dense, where nothing is masked, between, and below what is active.
KEEP_RATIOS = (1.0, 0.7, 0.2)


def make(config: Any, batch_size: int) -> tuple[Any, Any, Any]:
  """The parts, a state and a batch of a config."""
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=1)
  images = jax.random.randint(
    jax.random.key(0), (batch_size, 32, 32, 3), 0, 256
  )
  batch = {
    "images": images.astype(jnp.uint8),
    "labels": jnp.arange(batch_size) % 10,
  }
  return parts, factory.make_state(config, parts, images.shape[1:]), batch


def step_of(config: Any, batch_size: int) -> dict[float, Any]:
  """A training step at each keep ratio, as functions of no arguments."""
  parts, state, batch = make(config, batch_size)
  step = make_train_step(
    parts.model.apply,
    parts.tx,
    parts.controller,
    preprocess=normalize,
    donate_state=False,
  )

  def at(keep_ratio: float) -> TrainState:
    # The budget is part of the state: one program serves all.
    own = controllers.constant(keep_ratio).init()
    watched = state.controller_state._replace(controller=own)
    return state.replace(controller_state=watched)

  return {r: functools.partial(step, at(r), batch) for r in KEEP_RATIOS}


def measuring(config: Any, batch_size: int) -> dict[str, Any]:
  """The measures and a backward pass, as functions of no arguments."""
  parts, state, batch = make(config, batch_size)
  apply = parts.model.apply

  @jax.jit
  def backward(state: TrainState, batch: Any) -> Any:
    def loss(params: Any) -> jax.Array:
      variables = {**state.variables, "params": params}
      logits, _ = apply(variables, normalize(batch["images"]), 1.0)
      return jnp.mean(cross_entropy(logits, batch["labels"]))

    return jax.value_and_grad(loss)(state.params)

  @jax.jit
  def measures(state: TrainState, batch: Any) -> Any:
    return analysis.measure_layers(
      apply,
      state.variables,
      normalize(batch["images"]),
      batch["labels"],
      flat=(-jnp.inf, 0.0),
    )

  return {
    "backward pass": functools.partial(backward, state, batch),
    "measures": functools.partial(measures, state, batch),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=int, default=15)
  parser.add_argument("--batch_size", type=int, default=64)
  args = parser.parse_args()
  rows: list[dict[str, Any]] = []
  for network, base in counted([*BASES.items()]):
    times = interleaved_milliseconds(
      measuring(configs.load(base), args.batch_size), rounds=args.rounds
    )
    quotient = times["measures"] / times["backward pass"]
    row: dict[str, Any] = {
      "network": network,
      "batch_size": args.batch_size,
      "milliseconds": times,
      "measures_over_backward": quotient,
    }
    print(f"{network}: measures take {quotient:.2f} times a backward pass")
    row["steps"] = []
    steps_of = {
      name: step_of(configs.load(base, overrides), args.batch_size)
      for name, overrides in ({"plain": ()} | MODULES).items()
    }
    for keep_ratio in KEEP_RATIOS:
      calls = {
        name: by_ratio[keep_ratio] for name, by_ratio in steps_of.items()
      }
      times = interleaved_milliseconds(calls, rounds=args.rounds)
      over_plain = {name: times[name] / times["plain"] for name in MODULES}
      row["steps"].append(
        {
          "keep_ratio": keep_ratio,
          "milliseconds": times,
          "over_plain": over_plain,
        }
      )
      for name, value in over_plain.items():
        print(f"{network} at {keep_ratio}: {value:.3f} with {name}")
    rows.append(row)
  write_results(
    f"bench_flat_minima-{jax.default_backend()}",
    rows,
    ["jax", "jaxlib", "flax"],
  )


if __name__ == "__main__":
  main()
