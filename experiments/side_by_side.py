r"""Trains many arms and seeds of a study side by side in one program.

Usage:
  python experiments/side_by_side.py --out=FOLDER [--dropout=0.2] \
    [--one_by_one=ARMS.json] [--config=configs/study_text.py] \
    [--config.section.field=value ...]

For small networks, one of which leaves a GPU idle: states are stacked and the
config's own step is vmapped over them. All controllers listen in every network,
and a number in its state says whose budget is in force, so that one program
serves all arms. Writes ``arms.json`` to the folder, and with ``--dropout`` a
file of that rate alone (a rate is another program). With ``--one_by_one``, what
a CPU core can do, it trains networks one after another and goes on where it was
stopped: with a dropout rate that arm, else the dense one, the averaged Strategy
1, ``gentle``, and the random ones, whose budgets it reads from an earlier
``arms.json``. By arm and seed: the scores after each epoch, the budgets, and
the test score at ``RATIOS`` after the last.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from bench import commit
from etils import epath
from jax import lax

from sparse_regimes import Controller, controllers
from sparse_regimes.analysis.calibration import (
  masks_of,
  site_tables,
  with_thresholds,
)
from sparse_regimes.errors import InputError, one_of
from sparse_regimes.files import read_object
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.task import make_task

RATIOS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.06, 0.04, 0.03, 0.02)
CONSTANTS = (0.1, 0.25, 0.5)
CONTROL_SEEDS = (100, 101, 102)
SEEDS = (0, 1, 2, 3, 4)
_QUANTILES = 21
# Whose budgets the matched random arm has.
MODEL = "strategy1_averaged"
SPREAD = np.geomspace(0.1, 1, _QUANTILES).tolist()
# By task: what it is judged by, and what the controllers follow.
SCORES = {"classification": "accuracy", "language": "loss"}
_CLOCK: dict[str, Any] = {"decide_every": 10, "tighten_pct": 0.05}
# Of accuracy the released values, which are the defaults.
_OF_LOSS: dict[str, Any] = {"drop_tol": 0.1, "ema_beta": 0.9}


def listeners(signal: str) -> dict[str, Controller]:
  """The controllers with rules of their own."""
  of_signal = _OF_LOSS if signal == "loss" else {}
  strategy1 = controllers.strategy1(signal=signal, **_CLOCK, **of_signal)
  return {
    "strategy1": strategy1,
    "strategy1_averaged": controllers.averaged(
      strategy1, window=_CLOCK["decide_every"], signal=signal
    ),
    "gentle": controllers.gentle(decide_every=10, signal=signal, **of_signal),
    "strategy2": controllers.strategy2(signal=signal, **_CLOCK, **of_signal),
    "cosine": controllers.cosine(decide_every=10, period=40, keep_min=0.1),
  }


class AmongState(NamedTuple):
  """The states of all, and which one is in force.

  Attributes:
    keep_ratio: the budget in force, float32 scalar.
    number: of the controller in force; behind the last one a draw.
    quantiles: that it is drawn from, float32 ``[21]``; all alike: a constant.
    draws: made so far, with a seed, int32 ``[2]``.
    states: of the controllers.
  """

  keep_ratio: jax.Array
  number: jax.Array
  quantiles: jax.Array
  draws: jax.Array
  states: tuple[Any, ...]


def among(rules: Sequence[Controller]) -> Controller:
  """All rules at once."""

  def init() -> AmongState:
    return AmongState(
      keep_ratio=jnp.ones((), jnp.float32),
      number=jnp.full((), len(rules), jnp.int32),
      quantiles=jnp.ones(_QUANTILES, jnp.float32),
      draws=jnp.zeros(2, jnp.int32),
      states=tuple(rule.init() for rule in rules),
    )

  def update(state: AmongState, /, **signals: Any) -> AmongState:
    states = tuple(
      rule.update(each, **signals)
      for rule, each in zip(rules, state.states, strict=True)
    )
    seed, count = state.draws
    key = jax.random.fold_in(jax.random.key(seed), count)
    drawn = jnp.interp(
      jax.random.uniform(key), jnp.linspace(0, 1, _QUANTILES), state.quantiles
    )
    budgets = jnp.stack([*(each.keep_ratio for each in states), drawn])
    return state._replace(
      keep_ratio=budgets[state.number],
      draws=state.draws + jnp.array([0, 1], jnp.int32),
      states=states,
    )

  return Controller(init, update)


class Network(NamedTuple):
  """One of those that are trained: an arm with a seed.

  Attributes:
    arm: its name.
    seed: of parameters, windows and dropout.
    number: of its controller.
    quantiles: of its draws, or the constant.
  """

  arm: str
  seed: int
  number: int
  quantiles: Sequence[float] = (1.0,) * _QUANTILES


class Study:
  """What is compiled once for all networks.

  Args:
    config: complete.
  """

  def __init__(self, config: Any):
    self.config = config
    self.task: Any = make_task(config, print)
    self.score = SCORES[config.task.name]
    self.rules = listeners(self.score)
    size = config.train.batch_size
    parts = factory.make_parts(
      config,
      steps_per_epoch=self.task.num_train // size,
      **self.task.arguments,
    )
    self.parts = parts._replace(controller=among([*self.rules.values()]))
    self.test, self.seen = (
      _in_batches(self.task.evaluation_sets[name], config.eval.batch_size)
      for name in ("test", "train")
    )
    self.evaluate = self.evaluation(self.parts.model)
    self.epoch = self._epoch()

  def begin(self, networks: Sequence[Network]) -> Any:
    """Their states before the first step, stacked."""
    states = []
    for network in networks:
      config = self.config.copy_and_resolve_references()
      config.seed = network.seed
      state = factory.make_state(
        config, self.parts, self.task.inputs, self.task
      )
      quantiles = jnp.asarray(network.quantiles, jnp.float32)
      inner = state.controller_state._replace(
        number=jnp.int32(network.number),
        quantiles=quantiles,
        keep_ratio=quantiles[-1],
        draws=jnp.array([network.seed, 0], jnp.int32),
      )
      states.append(state.replace(controller_state=inner))
    return jax.tree.map(_stacked, *states)

  def _epoch(self) -> Callable[..., Any]:
    step = self.task.train_step(
      self.parts.model, self.parts.tx, self.parts.controller
    )
    examples = jax.tree.map(jnp.asarray, dict(self.task.train_examples))

    def epoch(state: Any, order: jax.Array) -> Any:
      def body(state: Any, index: jax.Array) -> Any:
        state, metrics = step(state, self.task.batch(examples, index))
        return state, {n: metrics[n] for n in ("keep_ratio", "skipped")}

      return lax.scan(body, state, order)

    return jax.jit(jax.vmap(epoch), donate_argnums=0)

  def evaluation(self, model: Any) -> Callable[..., dict[str, np.ndarray]]:
    """The score of every network, ``(states, batches, ratio) -> numbers``."""
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

    every = jax.jit(jax.vmap(evaluate, in_axes=(0, None, None)))
    return lambda state, batches, ratio: jax.tree.map(
      np.asarray, every(state, batches, jnp.float32(ratio))
    )

  def run(self, networks: Sequence[Network]) -> tuple[Any, list[dict]]:
    """Trains them; their states, and a record each."""
    state = self.begin(networks)
    orders = np.stack([self._orders(n.seed) for n in networks])
    curves: list[list[dict[str, float]]] = [[] for _ in networks]
    budgets, skipped = [], np.zeros(len(networks), int)
    started = time.monotonic()
    for epoch in range(self.config.train.epochs):
      state, steps = self.epoch(state, orders[:, epoch])
      budgets.append(np.asarray(steps["keep_ratio"]))
      skipped += np.asarray(steps["skipped"], int).sum(1)
      test = self.evaluate(state, self.test, 1.0)
      seen = self.evaluate(state, self.seen, 1.0)
      for i, curve in enumerate(curves):
        curve.append(
          {
            "test": float(test[self.score][i]),
            "train": float(seen[self.score][i]),
          }
        )
      print(
        f"epoch {epoch + 1}, {time.monotonic() - started:.1f} s", flush=True
      )
    ratios = np.concatenate(budgets, axis=1)
    levels = np.linspace(0, 1, _QUANTILES)
    records: list[dict[str, Any]] = [
      {
        "arm": network.arm,
        "seed": network.seed,
        "epochs": curves[i],
        "skipped": int(skipped[i]),
        "resets": int(np.sum(np.diff(ratios[i]) > 0)),
        "lowest_keep_ratio": float(ratios[i].min()),
        "budget_quantiles": np.quantile(ratios[i], levels).tolist(),
        "sweep": [],
      }
      for i, network in enumerate(networks)
    ]
    self.sweep(self.evaluate, state, records)
    return state, records

  def sweep(
    self, evaluate: Callable[..., Any], state: Any, records: list[dict]
  ) -> None:
    """Adds the score at every ratio."""
    for ratio in RATIOS:
      found = evaluate(state, self.test, ratio)
      for i, record in enumerate(records):
        row = {name: float(values[i]) for name, values in found.items()}
        record["sweep"].append({"keep_ratio": ratio, **row})

  def calibrated(self, state: Any, records: Sequence[dict]) -> list[dict]:
    """Records of the same networks under thresholds found without training."""
    model = with_thresholds(self.parts.model)
    inputs = self.task.inputs_of(jax.tree.map(lambda x: x[0], self.seen))
    masks = []
    for i in range(len(records)):
      variables = jax.tree.map(lambda x, i=i: x[i], state.variables)
      masks.append(masks_of(site_tables(self.parts.model, variables, [inputs])))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *masks)
    mine = [
      {"arm": "dense_calibrated", "seed": record["seed"], "sweep": []}
      for record in records
    ]
    variables = {**state.variables, "masks": stacked}
    self.sweep(self.evaluation(model), variables, mine)
    return mine

  def _orders(self, seed: int) -> np.ndarray:
    number, size = self.task.num_train, self.config.train.batch_size
    rng = np.random.default_rng(seed)
    steps = number // size
    epochs = [
      rng.permutation(number)[: steps * size].reshape(steps, size)
      for _ in range(self.config.train.epochs)
    ]
    return np.stack(epochs).astype(np.int32)


def _stacked(*leaves: jax.Array) -> jax.Array:
  if jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
    return jnp.stack(leaves)
  # By NumPy nothing is compiled for each of the shapes.
  return jnp.asarray(np.stack(jax.device_get(leaves)))


def _in_batches(examples: Any, most: int) -> Any:
  number = len(jax.tree.leaves(examples)[0])
  # Of equal size, so that none is left out.
  size = max(n for n in range(1, most + 1) if number % n == 0)
  return jax.tree.map(
    lambda x: jnp.asarray(x).reshape(-1, size, *x.shape[1:]), examples
  )


def _pick(state: Any, records: Sequence[dict], arm: str) -> tuple[Any, list]:
  chosen = [i for i, r in enumerate(records) if r["arm"] == arm]
  chosen = [i for i in chosen if records[i]["seed"] in SEEDS]
  some = jax.tree.map(lambda x: x[np.array(chosen)], state)
  return some, [records[i] for i in chosen]


def arms(study: Study, known: Callable[[list[dict]], None]) -> None:
  """All that need no dropout; each part is told as soon as it is known."""
  constants = [
    Network(f"constant_{ratio}", seed, len(study.rules), (ratio,) * _QUANTILES)
    for ratio in (1.0, *CONSTANTS)
    for seed in (*CONTROL_SEEDS, *SEEDS)
  ]
  rules = [
    Network(name, seed, number)
    for number, name in enumerate(study.rules)
    for seed in SEEDS
  ]
  state, records = study.run([*constants, *rules])
  known(records)
  known(study.calibrated(*_pick(state, records, "constant_1.0")))
  del state
  matched = matched_budgets(records)
  known(study.run(drawn(study, random_matched=matched, random=SPREAD))[1])


def one_by_one(
  study: Study,
  networks: Sequence[Network],
  known: Callable[[list[dict]], None],
  done: Sequence[dict],
) -> None:
  """One network after another, a seed's arms together.

  On a CPU core a network alone takes a quarter less than among others.

  Args:
    study: compiled.
    networks: to be trained.
    known: told of each.
    done: records of those that are not trained again.
  """
  before = {(record["arm"], record["seed"]) for record in done}
  for network in sorted(networks, key=lambda each: each.seed):
    if (network.arm, network.seed) in before:
      continue
    state, records = study.run([network])
    if network.arm == "constant_1.0":
      records += study.calibrated(state, records)
    known(records)


def few_arms(study: Study, matched: Sequence[float]) -> list[Network]:
  """The dense arm, two controllers and the random arms."""
  dense = (1.0,) * _QUANTILES
  return [
    *(
      Network(name, seed, [*study.rules].index(name))
      for name in (MODEL, "gentle")
      for seed in SEEDS
    ),
    *drawn(
      study, **{"constant_1.0": dense}, random_matched=matched, random=SPREAD
    ),
  ]


def matched_budgets(records: Sequence[dict]) -> list[float]:
  """The quantiles of the budgets that the averaged Strategy 1 went through."""
  model = [r for r in records if r["arm"] == MODEL]
  if not model:
    raise InputError(f"--one_by_one: no run of the arm {MODEL} in it")
  return np.mean([r["budget_quantiles"] for r in model], axis=0).tolist()


def drawn(study: Study, **quantiles: Sequence[float]) -> list[Network]:
  """Arms whose budgets are drawn, or constant, over the seeds."""
  return [
    Network(name, seed, len(study.rules), [*levels])
    for name, levels in quantiles.items()
    for seed in SEEDS
  ]


def study_of(config: str, overrides: Sequence[str]) -> Study:
  """What is trained; an ``InputError`` says what cannot be."""
  for override in overrides:
    section = override.partition(".")[0]
    if section in ("controller", "signal", "budget") or override == "seed":
      raise InputError(
        f"--config.{override}: the arms have controllers and seeds of their own"
      )
  loaded = configs.load(config, overrides)
  one_of("task.name", loaded.task.name, SCORES)
  return Study(loaded)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--config", default="configs/study_text.py")
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--dropout", type=float, default=0.0)
  parser.add_argument("--one_by_one", type=Path)
  args, rest = parser.parse_known_args()
  overrides = [each.removeprefix("--config.") for each in rest]
  if args.dropout:
    overrides.append(f"model.dropout={args.dropout}")
  name = f"dropout_{args.dropout}" if args.dropout else "arms"
  matched: list[float] = []
  try:
    if args.one_by_one:
      content = read_object(epath.Path(args.one_by_one), most=2**26)
      matched = matched_budgets(content["runs"])
    path = args.out / f"{name}.json"
    if path.exists() and not args.one_by_one:
      raise InputError(f"--out: {path} is there; choose another folder")
    study = study_of(args.config, overrides)
  except (InputError, ValueError) as error:
    sys.exit(f"error: {error}")
  records: list[dict[str, Any]] = []
  if matched and path.exists():
    records = read_object(epath.Path(path), most=2**26)["runs"]

  def known(more: list[dict[str, Any]]) -> None:
    records.extend(more)
    args.out.mkdir(parents=True, exist_ok=True)
    content = {
      "config": args.config,
      "overrides": overrides,
      "device": jax.devices()[0].device_kind,
      "versions": {p: version(p) for p in ("jax", "flax", "optax")},
      "commit": commit(),
      "runs": _short(records),
    }
    # A line a network.
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    text = text.replace('{"arm"', '\n{"arm"')
    path.write_text(text + "\n")

  draw = len(study.rules)
  dropped = [Network(name, s, draw) for s in (*CONTROL_SEEDS, *SEEDS)]
  if matched:
    lone = [each for each in dropped if each.seed in SEEDS]
    networks = lone if args.dropout else few_arms(study, matched)
    one_by_one(study, networks, known, records)
  elif args.dropout:
    known(study.run(dropped)[1])
  else:
    arms(study, known)


def _short(node: Any) -> Any:
  """With six digits, which is more than a float32 sum has."""
  if isinstance(node, float):
    return float(f"{node:.6g}")
  if isinstance(node, dict):
    return {name: _short(x) for name, x in node.items()}
  return [_short(x) for x in node] if isinstance(node, list) else node


if __name__ == "__main__":
  main()
