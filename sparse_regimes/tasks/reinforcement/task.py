"""What an actor earns in an environment, as a task of a run."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from sparse_regimes.controllers import Controller
from sparse_regimes.errors import InputError, in_range
from sparse_regimes.tasks.base import Examples, check_names
from sparse_regimes.tasks.reinforcement import ppo
from sparse_regimes.tasks.reinforcement.environment import Environment
from sparse_regimes.training.eval_step import EvalStep
from sparse_regimes.training.step import TrainStep


class Reinforcement:
  """PPO in an environment of gymnax.

  A step of the run is a rollout of ``train.batch_size`` environments and the
  updates that learn it; an epoch has ``iterations`` steps and ends with whole
  episodes at both budgets.

  Args:
    config: the run's; ``data.name`` is the environment, such as ``CartPole-v1``
      or ``Breakout-MinAtar``.
    log: takes a line at a time.
    constants: nothing.
    iterations: steps of an epoch.
    num_steps: see :class:`sparse_regimes.tasks.reinforcement.ppo.Hyper`, as are
      the others to ``value``.
    num_epochs: likewise.
    num_minibatches: likewise.
    discount: likewise.
    gae_lambda: likewise.
    clip: likewise.
    entropy: likewise.
    value: likewise.
    episodes: that an evaluation plays, as in training: actions are drawn.

  Raises:
    InputError: for an environment that there is not.

  Example:
    >>> from ml_collections import ConfigDict
    >>> from sparse_regimes.tasks import Reinforcement
    >>> config = ConfigDict({"task": {"num_steps": 128}})
    >>> config.task.update({"num_epochs": 4, "num_minibatches": 4})
    >>> Reinforcement.rate(config), Reinforcement.updates_per_step(config)
    (('environment steps', 128), 16)
  """

  unit = "episodes"
  metric = "return"
  choice = "return"

  def __init__(
    self,
    config: Any,
    log: Callable[[str], None],
    constants: Mapping[str, Any] | None = None,
    iterations: int = 50,
    num_steps: int = 128,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    clip: float = 0.2,
    entropy: float = 0.01,
    value: float = 0.5,
    episodes: int = 32,
  ):
    del log, constants
    self._env = Environment(config.data.name)
    self.train_examples: Examples = {}
    self.constants: dict[str, Any] = {}
    self._num_envs = config.train.batch_size
    self._hyper = ppo.Hyper(
      *(num_steps, num_epochs, num_minibatches, discount),
      *(gae_lambda, clip, entropy, value),
    )
    self.source = "gymnax"
    self.num_train = self._num_envs * iterations
    self.arguments = {"num_actions": self._env.num_actions}
    self.inputs = jax.ShapeDtypeStruct(
      (1, *self._env.observation_shape), jnp.float32
    )
    # An episode is what its seed makes of it.
    seeds = np.arange(2 * episodes, dtype=np.int32)
    self.evaluation_sets: dict[str, Examples] = {
      "test": {"seed": seeds[:episodes]},
      "train": {"seed": seeds[episodes:]},
    }
    self.digest = zlib.crc32(repr((config.data.name, self._hyper)).encode())

  @staticmethod
  def check(config: Any) -> dict[str, Any]:
    """See :meth:`sparse_regimes.tasks.Task.check`."""
    task = config.task
    for name, most in (
      *(("iterations", 10**6), ("num_steps", 10**5), ("num_epochs", 1000)),
      *(("num_minibatches", 10**5), ("episodes", 10**5)),
    ):
      in_range(name, task[name], 1, most)
    for name in ("discount", "gae_lambda"):
      in_range(name, task[name], 0, 1)
    for name in ("clip", "entropy", "value"):
      in_range(name, task[name], 0)
    played = config.train.batch_size * task.num_steps
    if played % task.num_minibatches:
      raise InputError(
        f"task.num_minibatches must divide the {played} steps of a rollout"
        f" (train.batch_size times task.num_steps), got {task.num_minibatches}"
      )
    check_names(config, models=["actor_critic"], signals=["return", "loss"])
    environment = Environment(config.data.name)
    seen = [*environment.observation_shape]
    if config.model.get("network") == "conv" and len(seen) != 3:
      raise InputError(
        "model.network=conv needs observations of shape [h, w, c], got"
        f" {seen} of {config.data.name}; mlp takes any"
      )
    return {"num_actions": environment.num_actions}

  @staticmethod
  def rate(config: Any) -> tuple[str, int]:
    """Steps of the environments, of which a rollout has many."""
    return "environment steps", config.task.num_steps

  @staticmethod
  def updates_per_step(config: Any) -> int:
    """How often the optimizer is called in a step of the run."""
    return config.task.num_epochs * config.task.num_minibatches

  def batch(self, examples: Examples, index: jax.Array) -> jax.Array:
    """Nothing is gathered: the step makes its own examples."""
    return index

  def train_step(
    self,
    model: nn.Module,
    tx: optax.GradientTransformation,
    controller: Controller,
  ) -> TrainStep:
    """See :func:`sparse_regimes.tasks.reinforcement.ppo.make_ppo_step`."""
    return jax.jit(
      ppo.make_ppo_step(model.apply, self._env, tx, controller, self._hyper)
    )

  def extra(self, key: jax.Array) -> ppo.Playing:
    """Environments at their beginning."""
    return ppo.start(self._env, self._num_envs, key)

  def eval_step(self, model: nn.Module) -> EvalStep:
    """Whole episodes, one for each seed of a batch."""
    env = self._env

    def evaluate(state: Any, batch: Any, keep_ratio: jax.Array) -> Any:
      seeds = batch["seed"]
      keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(0), seed))(
        seeds
      )
      observation, env_state = env.reset(keys)
      zeros = jnp.zeros(len(seeds), jnp.float32)
      _, stats = jax.eval_shape(
        model.apply, state.variables, observation, keep_ratio
      )

      def is_playing(carry: Any) -> jax.Array:
        *_, playing, number = carry
        return jnp.any(playing) & (number < env.max_steps)

      def play(carry: Any) -> Any:
        observation, env_state, got, nonzero, playing, number = carry
        (logits, _), stats = model.apply(
          state.variables, observation, keep_ratio
        )
        drawn = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        action = jax.vmap(jax.random.categorical)(drawn, logits)
        observation, env_state, reward, ended = env.step(
          jax.vmap(jax.random.fold_in, (0, None))(drawn, 1), env_state, action
        )
        got = got + jnp.where(playing, reward, 0.0)
        return (
          *(observation, env_state, got, nonzero + stats),
          *(playing & ~ended, number + 1),
        )

      _, _, got, nonzero, _, number = lax.while_loop(
        is_playing,
        play,
        (
          *(observation, env_state, zeros),
          jnp.zeros(stats.shape, jnp.float32),
          *(jnp.ones(len(seeds), bool), jnp.zeros((), jnp.int32)),
        ),
      )
      count = jnp.array(len(seeds), jnp.int32)
      share = nonzero / jnp.maximum(number, 1).astype(jnp.float32)
      return {
        "count": count,
        "loss": -jnp.sum(got),
        "return": jnp.sum(got),
        "nonzero": share * count.astype(jnp.float32),
      }

    return EvalStep(evaluate)
