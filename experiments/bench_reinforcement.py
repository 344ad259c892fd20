"""Times PPO on CartPole, beside a plain loop that has no budget.

Usage:
  python experiments/bench_reinforcement.py [--rounds=11] [--beside=COMMAND]

The sizes are PureJaxRL's: 4 environments, rollouts of 128 steps, 4 epochs of 4
minibatches, two networks of 64 and 64. A call is 16 iterations in one compiled
program. In turns: our step dense, at a keep ratio of 0.5, and a plain loop
after PureJaxRL's ``ppo.py``: rollout, advantages and updates of the same sizes,
with neither masks, nor a controller, nor a look at whether numbers are finite.
``--beside`` is a command that times another program of the same sizes and
prints its environment steps a second as the first number of its last line: it
runs in turns with ours, five times. Writes
``results/bench_reinforcement-PLATFORM.json``.
"""

import argparse
import functools
import shlex
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from bench import interleaved_milliseconds, write_results
from flax import linen as nn
from jax import lax

from sparse_regimes import TrainState, controllers
from sparse_regimes.models import ActorCritic
from sparse_regimes.tasks.reinforcement import ppo
from sparse_regimes.tasks.reinforcement.environment import Environment

NUM_ENVS, ITERATIONS = 4, 16
HYPER = ppo.Hyper()


def optimizer() -> optax.GradientTransformation:
  return optax.chain(
    optax.clip_by_global_norm(0.5), optax.adam(2.5e-4, eps=1e-5)
  )


def our_call(keep_ratio: float) -> Callable[[], Any]:
  """Sixteen steps at a budget."""
  env = Environment("CartPole-v1")
  model = ActorCritic()
  controller = controllers.constant(keep_ratio)
  tx, key = optimizer(), jax.random.key(0)
  step = ppo.make_ppo_step(model.apply, env, tx, controller, HYPER)
  state = TrainState.create(
    model.init(key, jnp.zeros((1, 4)), 1.0),
    tx=tx,
    controller=controller,
    rng=key,
    extra={"task": ppo.start(env, NUM_ENVS, key)},
  )
  call = jax.jit(lambda s: lax.scan(step, s, jnp.arange(ITERATIONS)))
  return functools.partial(call, state)


class Plain(nn.Module):
  """PureJaxRL's actor and critic."""

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What to do, and what it is worth."""
    outputs = []
    for features, scale in ((2, 0.01), (1, 1.0)):
      h = x
      for _ in range(2):
        init = nn.initializers.orthogonal(2**0.5)
        h = nn.tanh(nn.Dense(64, kernel_init=init)(h))
      init = nn.initializers.orthogonal(scale)
      outputs.append(nn.Dense(features, kernel_init=init)(h))
    return outputs[0], outputs[1][:, 0]


def plain_call() -> Callable[[], Any]:
  """Sixteen iterations without budgets, controller or checks."""
  env, model, tx = Environment("CartPole-v1"), Plain(), optimizer()
  key = jax.random.key(0)
  params = model.init(key, jnp.zeros((1, 4)))

  def apply_fn(variables: Any, x: jax.Array, _: Any) -> Any:
    return model.apply(variables["params"], x), jnp.zeros(1)

  loss_fn = ppo.ppo_loss(apply_fn, HYPER)

  def iterate(carry: Any, key: jax.Array) -> Any:
    params, opt_state, playing = carry
    play_key, order_key = jax.random.split(key)

    def forward(x: jax.Array) -> Any:
      return model.apply(params, x)

    playing, steps = ppo.rollout(
      forward, env, playing, HYPER.num_steps, play_key
    )
    _, last = forward(playing.observation)
    gained = ppo.advantages(steps, last, HYPER.discount, HYPER.gae_lambda)
    data = jax.tree.map(
      lambda x: x.reshape(-1, *x.shape[2:]),
      (steps, gained, gained + steps.value),
    )

    def update(carry: Any, batch: Any) -> Any:
      params, opt_state = carry
      grads = jax.grad(
        lambda p: loss_fn(p, {}, batch, keep_ratio=1.0, rng=None)[0]
      )(params)
      updates, opt_state = tx.update(grads, opt_state, params)
      return (optax.apply_updates(params, updates), opt_state), None

    def epoch(carry: Any, key: jax.Array) -> Any:
      order = jax.random.permutation(key, NUM_ENVS * HYPER.num_steps)
      batches = jax.tree.map(
        lambda x: x[order].reshape(HYPER.num_minibatches, -1, *x.shape[1:]),
        data,
      )
      return lax.scan(update, carry, batches)

    keys = jax.random.split(order_key, HYPER.num_epochs)
    (params, opt_state), _ = lax.scan(epoch, (params, opt_state), keys)
    return (params, opt_state, playing), jnp.nanmean(steps.returned)

  begin = params, tx.init(params), ppo.start(env, NUM_ENVS, key)
  keys = jax.random.split(key, ITERATIONS)
  call = jax.jit(lambda carry: lax.scan(iterate, carry, keys))
  return functools.partial(call, begin)


def beside(command: str) -> float:
  """Steps a second of another program."""
  done = subprocess.run(
    shlex.split(command), check=True, capture_output=True, text=True
  )
  return float(done.stdout.splitlines()[-1].split()[0])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=int, default=11)
  parser.add_argument("--beside", default="")
  args = parser.parse_args()
  calls = {
    "dense": our_call(1.0),
    "ratio 0.5": our_call(0.5),
    "plain": plain_call(),
  }
  steps = NUM_ENVS * HYPER.num_steps * ITERATIONS
  turns: dict[str, list[float]] = {}
  for _ in range(5 if args.beside else 1):
    times = interleaved_milliseconds(calls, rounds=args.rounds)
    if args.beside:
      times["beside"] = 1e3 * steps / beside(args.beside)
    for name, time in times.items():
      turns.setdefault(name, []).append(time)
  times = {name: statistics.median(all_) for name, all_ in turns.items()}
  rates = {name: 1e3 * steps / time for name, time in times.items()}
  for name, rate in rates.items():
    print(f"{name:>10} {times[name]:8.1f} ms  {rate:8.0f} steps/s")
  write_results(
    f"bench_reinforcement-{jax.default_backend()}",
    [{"milliseconds": times, "steps_per_second": rates}],
    ("jax", "jaxlib", "flax", "optax", "gymnax"),
  )


if __name__ == "__main__":
  main()
