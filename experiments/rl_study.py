"""CartPole under regimes: ten seeds of an arm side by side in one program.

Usage:
  python experiments/rl_study.py [--seeds=10] \
    [--arms=dense,strategy1,random] [--out=runs/cartpole.json] \
    [--config.section.field=value ...]

By part 4 of ``results/regimes/PROTOCOL.md``: the config's step, vmapped over
states that differ in their seed. Writes, by arm and seed, the return of whole
episodes after each epoch, dense, and after the last one at ``RATIOS``.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import commit, counted
from jax import lax

from sparse_regimes.controllers.random_ratio import RandomRatioState
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.task import make_task

RATIOS = (1.0, 0.5, 0.25, 0.1)
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
  "dense": ("ppo_cartpole_dense", ()),
  "strategy1": ("ppo_cartpole_strategy1", ()),
  "random": (
    "ppo_cartpole_dense",
    ("controller.name=random_ratio", "controller.keep_min=0.1"),
  ),
}


def _with_draws_of(state: Any, seed: int) -> Any:
  """One program has one ``draw_seed``: each seed begins at another draw."""

  def begin(node: Any) -> Any:
    if isinstance(node, RandomRatioState):
      return node._replace(num_batches=node.num_batches + 1_000_000 * seed)
    return node

  return jax.tree.map(
    begin, state, is_leaf=lambda node: isinstance(node, RandomRatioState)
  )


def run(config: Any, seeds: int) -> list[dict[str, Any]]:
  """Trains all seeds, and says of each how it went."""
  task = make_task(config, print)
  steps = task.num_train // config.train.batch_size
  parts = factory.make_parts(config, steps_per_epoch=steps, **task.arguments)
  states = []
  for seed in range(seeds):
    config.seed = seed
    state = factory.make_state(config, parts, task.inputs, task)
    states.append(_with_draws_of(state, seed))
  state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  step = task.train_step(parts.model, parts.tx, parts.controller)

  def epoch(state: Any) -> Any:
    def body(state: Any, _: Any) -> Any:
      state, metrics = step(state, jnp.zeros((), jnp.int32))
      return state, metrics["keep_ratio"]

    return lax.scan(body, state, length=steps)

  train = jax.jit(jax.vmap(epoch), donate_argnums=0)
  eval_step = task.eval_step(parts.model)
  test = {k: jnp.asarray(v) for k, v in task.evaluation_sets["test"].items()}

  @jax.jit
  @jax.vmap
  def at_ratios(state: Any) -> jax.Array:
    def at(ratio: jax.Array) -> jax.Array:
      sums = eval_step(state, test, ratio)
      return sums["return"] / sums["count"]

    return jax.vmap(at)(jnp.array(RATIOS, jnp.float32))

  curves, budgets = [], []
  for _ in counted(range(config.train.epochs)):
    state, ratios = train(state)
    budgets.append(np.asarray(ratios))
    curves.append(np.asarray(at_ratios(state)))
  moved = np.concatenate(budgets, axis=1)
  return [
    {
      "seed": seed,
      "returns": [round(float(c[seed, 0]), 3) for c in curves],
      "at_ratios": [round(float(r), 3) for r in curves[-1][seed]],
      "resets": int(np.sum(np.diff(moved[seed]) > 0)),
      "lowest_keep_ratio": float(moved[seed].min()),
      "mean_keep_ratio": float(moved[seed].mean()),
    }
    for seed in range(seeds)
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--seeds", type=int, default=10)
  parser.add_argument("--arms", default=",".join(ARMS))
  parser.add_argument("--out", type=Path, default=Path("runs/cartpole.json"))
  args, rest = parser.parse_known_args()
  overrides = [each.removeprefix("--config.") for each in rest]
  # What is there already stays, but for what is trained anew.
  known = json.loads(args.out.read_text()) if args.out.exists() else {}
  arms = known.get("arms", {})
  for arm in args.arms.split(","):
    config, of_arm = ARMS[arm]
    arms[arm] = run(configs.load(config, [*of_arm, *overrides]), args.seeds)
    last = [r["at_ratios"] for r in arms[arm]]
    print(arm, *np.mean(last, axis=0).round(1), flush=True)
  content = {
    "keep_ratios": RATIOS,
    "device": jax.devices()[0].device_kind,
    "versions": {p: version(p) for p in ("jax", "flax", "gymnax")},
    "commit": commit(),
    "arms": arms,
  }
  args.out.parent.mkdir(parents=True, exist_ok=True)
  args.out.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
  main()
