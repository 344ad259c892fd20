r"""Trains all seeds of an arm in one compiled program, for a GPU.

Usage:
  python experiments/regimes.py --config=configs/study_text.py --seeds=0,1,2 \
    --out=FILE.json [--vmap] [--matched=FILE.json] [--dense_peer] \
    [--config.section.field=value ...]

What a run's folder would hold, without its checkpoints and pages: the same
task, network, optimizer, controller and step, from the same config. Seeds take
turns inside the program, or side by side with ``--vmap``. Writes, by seed, the
score after each epoch, the budgets, and the score of the test split at the keep
ratios of ``RATIOS`` after the last one. ``--matched`` draws the budgets of
another file's arm in random order. ``--dense_peer`` adds the score under
thresholds calibrated for those ratios, without training.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from sparse_regimes.analysis.calibration import (
  masks_of,
  site_tables,
  with_thresholds,
)
from sparse_regimes.controllers.random_ratio import RandomRatioState
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.task import make_task

RATIOS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.06, 0.04, 0.03, 0.02)
_QUANTILES = 21


def orders(seed: int, epochs: int, number: int, batch_size: int) -> np.ndarray:
  """Which examples each step has, ``[epochs, steps, batch]``."""
  rng = np.random.default_rng(seed)
  steps = number // batch_size
  return np.stack(
    [
      rng.permutation(number)[: steps * batch_size].reshape(steps, batch_size)
      for _ in range(epochs)
    ]
  ).astype(np.int32)


def in_batches(examples: Any, size: int) -> Any:
  """Whole batches of an evaluation set; the rest is left out."""
  number = len(jax.tree.leaves(examples)[0])
  size = min(size, number)
  whole = number // size
  return jax.tree.map(
    lambda x: jnp.asarray(x[: whole * size]).reshape(whole, size, *x.shape[1:]),
    examples,
  )


class Arm:
  """An arm's seeds, and what is compiled for them.

  Args:
    config: complete; its seed is not used.
    seeds: of the runs.
    side_by_side: whether seeds are computed at once.
  """

  def __init__(
    self, config: ConfigDict, seeds: list[int], side_by_side: bool
  ) -> None:
    self.config, self.seeds = config, seeds
    self.over = jax.vmap if side_by_side else _in_turns
    self.task = make_task(config, print)
    size = config.train.batch_size
    self.parts = factory.make_parts(
      config,
      steps_per_epoch=self.task.num_train // size,
      **self.task.arguments,
    )
    self.state = self.begin()
    self.orders = np.stack(
      [
        orders(seed, config.train.epochs, self.task.num_train, size)
        for seed in seeds
      ]
    )
    sets = self.task.evaluation_sets
    self.test, self.seen = (
      in_batches(sets[name], config.eval.batch_size)
      for name in ("test", "train")
    )
    self.train_call = self._train_call()
    self.evaluate = self.evaluation(self.parts.model)

  def begin(self) -> Any:
    """The states before the first step, with a leading axis of seeds."""
    states = []
    for seed in self.seeds:
      config = self.config.copy_and_resolve_references()
      config.seed = seed
      state = factory.make_state(
        config, self.parts, self.task.inputs, self.task
      )
      states.append(_draws_of(state, seed))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

  def _train_call(self) -> Any:
    step = self.task.train_step(
      self.parts.model, self.parts.tx, self.parts.controller
    )
    examples = jax.tree.map(jnp.asarray, dict(self.task.train_examples))

    def epoch(state: Any, order: jax.Array) -> Any:
      def body(state: Any, index: jax.Array) -> Any:
        state, metrics = step(state, self.task.batch(examples, index))
        names = ("loss", "accuracy", "keep_ratio", "skipped")
        return state, {name: metrics[name] for name in names}

      return lax.scan(body, state, order)

    return jax.jit(self.over(epoch), donate_argnums=0)

  def evaluation(self, model: Any) -> Callable[..., dict[str, np.ndarray]]:
    """The score of every seed, ``(state, batches, ratio) -> numbers``."""
    step = self.task.eval_step(model)

    def evaluate(state: Any, batches: Any, ratio: jax.Array) -> Any:
      def body(_: Any, batch: Any) -> Any:
        sums = step(state, batch, ratio)
        nonzero = jnp.stack(jax.tree.leaves(sums["nonzero"])).mean()
        wanted = {n: sums[n] for n in ("loss", "correct", "count")}
        return _, {**wanted, "nonzero": nonzero}

      sums = jax.tree.map(jnp.sum, lax.scan(body, 0, batches)[1])
      share = {n: sums[n] / sums["count"] for n in sums if n != "count"}
      return {"accuracy": share.pop("correct"), **share}

    @jax.jit
    def over_seeds(state: Any, batches: Any, ratio: jax.Array) -> Any:
      return self.over(lambda s: evaluate(s, batches, ratio))(state)

    return lambda state, batches, ratio: jax.tree.map(
      np.asarray, over_seeds(state, batches, jnp.float32(ratio))
    )


def _in_turns(call: Callable[..., Any]) -> Callable[..., Any]:
  return lambda *args: lax.map(lambda each: call(*each), args)


def _draws_of(state: Any, seed: int) -> Any:
  """One program has one ``draw_seed``: other seeds begin at other draws."""

  def begin(node: Any) -> Any:
    if isinstance(node, RandomRatioState):
      return node._replace(num_batches=node.num_batches + 1_000_000 * seed)
    return node

  return jax.tree.map(
    begin, state, is_leaf=lambda node: isinstance(node, RandomRatioState)
  )


def rows_of(found: dict[str, np.ndarray], seed: int) -> dict[str, float]:
  """One seed's numbers."""
  return {name: float(values[seed]) for name, values in found.items()}


def train(arm: Arm) -> list[dict[str, Any]]:
  """Trains, and says of each seed how it went."""
  epochs: list[list[dict[str, Any]]] = [[] for _ in arm.seeds]
  budgets = []
  started = time.monotonic()
  for epoch in range(arm.config.train.epochs):
    arm.state, steps = arm.train_call(arm.state, arm.orders[:, epoch])
    steps = jax.tree.map(np.asarray, steps)
    budgets.append(steps["keep_ratio"])
    test = arm.evaluate(arm.state, arm.test, 1.0)
    seen = arm.evaluate(arm.state, arm.seen, 1.0)
    for i in range(len(arm.seeds)):
      epochs[i].append(
        {
          "test": rows_of(test, i),
          "seen": rows_of(seen, i),
          "keep_ratio": float(steps["keep_ratio"][i].mean()),
          "skipped": int(steps["skipped"][i].sum()),
        }
      )
    if epoch == 0:
      print(f"first epoch after {time.monotonic() - started:.1f} s", flush=True)
      started = time.monotonic()
  took = time.monotonic() - started
  steps = len(arm.seeds) * (arm.config.train.epochs - 1) * arm.orders.shape[2]
  print(f"{1e3 * took / max(1, steps):.2f} ms a step of a seed", flush=True)
  # [seeds, steps]
  ratios = np.concatenate(budgets, axis=1)
  levels = np.linspace(0, 1, _QUANTILES)
  return [
    {
      "seed": seed,
      "epochs": epochs[i],
      "resets": int(np.sum(np.diff(ratios[i]) > 0)),
      "lowest_keep_ratio": float(ratios[i].min()),
      "budget_quantiles": np.quantile(ratios[i], levels).tolist(),
      "sweep": [],
    }
    for i, seed in enumerate(arm.seeds)
  ]


def sweep(arm: Arm, runs: list[dict[str, Any]]) -> None:
  """Adds the score at every ratio."""
  for ratio in RATIOS:
    found = arm.evaluate(arm.state, arm.test, ratio)
    for i, run in enumerate(runs):
      run["sweep"].append({"keep_ratio": ratio, **rows_of(found, i)})


def dense_peer(arm: Arm, runs: list[dict[str, Any]]) -> None:
  """Adds the score under thresholds calibrated on training examples."""
  model = with_thresholds(arm.parts.model)
  evaluate = arm.evaluation(model)
  batches = jax.tree.map(lambda x: x[0], arm.seen)
  inputs = arm.task.inputs_of(batches)
  masks = []
  for i in range(len(arm.seeds)):
    variables = jax.tree.map(lambda x, i=i: x[i], arm.state.variables)
    masks.append(masks_of(site_tables(arm.parts.model, variables, [inputs])))
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *masks)
  variables = {**arm.state.variables, "masks": stacked}
  for ratio in RATIOS:
    found = evaluate(variables, arm.test, ratio)
    for i, run in enumerate(runs):
      run.setdefault("thresholds", []).append(
        {"keep_ratio": ratio, **rows_of(found, i)}
      )


def matched(path: Path, config: ConfigDict) -> None:
  """Budgets of another arm's runs, in random order."""
  runs = json.loads(path.read_text())["runs"]
  quantiles = np.mean([run["budget_quantiles"] for run in runs], axis=0)
  config.controller.quantiles = tuple(
    float(q) for q in np.clip(np.sort(quantiles), 1e-6, 1)
  )
  config.controller.keep_min = min(config.controller.quantiles)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--config", required=True)
  parser.add_argument("--seeds", default="0,1,2,3,4")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--vmap", action="store_true")
  parser.add_argument("--matched", type=Path)
  parser.add_argument("--dense_peer", action="store_true")
  args, rest = parser.parse_known_args()
  overrides = [each.removeprefix("--config.") for each in rest]
  config = configs.load(args.config, overrides)
  if args.matched:
    matched(args.matched, config)
  arm = Arm(config, [*map(int, args.seeds.split(","))], args.vmap)
  runs = train(arm)
  sweep(arm, runs)
  if args.dense_peer:
    dense_peer(arm, runs)
  content = {
    "config": args.config,
    "overrides": overrides,
    "device": jax.devices()[0].device_kind,
    "jax": jax.__version__,
    "runs": runs,
  }
  args.out.parent.mkdir(parents=True, exist_ok=True)
  args.out.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
  last = [run["epochs"][-1]["test"] for run in runs]
  print(args.out, *(f"{r['accuracy']:.4f}/{r['loss']:.4f}" for r in last))


if __name__ == "__main__":
  main()
