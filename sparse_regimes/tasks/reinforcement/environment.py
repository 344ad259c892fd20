"""Environments of gymnax by name, many at once, as pure functions."""

from typing import Any

import jax
import jax.numpy as jnp

from sparse_regimes.errors import InputError, did_you_mean

INSTALL = "pip install 'sparse_regimes[rl]'"


class Environment:
  """Several copies of an environment that start anew when they end.

  Args:
    name: of gymnax, such as ``CartPole-v1`` or ``Breakout-MinAtar``.

  Raises:
    InputError: naming ``data.name``, for one that there is not, one
      whose actions are no choice among a few, or where gymnax is not installed.

  Attributes:
    num_actions: to choose from.
    observation_shape: of one environment.
    max_steps: of an episode.
  """

  def __init__(self, name: str):
    try:
      import gymnax
    except ImportError as error:
      raise InputError(
        f"data.name {name} needs gymnax ({error}): {INSTALL}"
      ) from error
    if name not in gymnax.registered_envs:
      raise InputError(
        f"data.name must be one of {', '.join(gymnax.registered_envs)},"
        f" got {name!r}{did_you_mean(name, gymnax.registered_envs)}"
      )
    self._env, self._params = gymnax.make(name)
    actions = self._env.action_space(self._params)
    if not hasattr(actions, "n"):
      raise InputError(
        f"data.name must have actions to choose from, got {name} with {actions}"
      )
    self.name = name
    self.num_actions = int(actions.n)
    self.max_steps = int(self._params.max_steps_in_episode)
    observation, _ = jax.eval_shape(
      self._env.reset, jax.random.key(0), self._params
    )
    self.observation_shape: tuple[int, ...] = observation.shape

  def reset(self, keys: jax.Array) -> tuple[jax.Array, Any]:
    """Observations float32 ``[n, ...]``, and states, of n keys."""
    observation, state = jax.vmap(self._env.reset, in_axes=(0, None))(
      keys, self._params
    )
    return observation.astype(jnp.float32), _strong(state)

  def step(
    self, keys: jax.Array, state: Any, action: jax.Array
  ) -> tuple[jax.Array, Any, jax.Array, jax.Array]:
    """``(observations, states, rewards, whether an episode ended)``.

    Where one ended the observation is the first of the next one.
    """
    observation, new, reward, terminated, truncated, _ = jax.vmap(
      self._env.step, in_axes=(0, 0, 0, None)
    )(keys, state, action, self._params)
    ended = terminated | truncated
    reward = reward.astype(jnp.float32)
    return observation.astype(jnp.float32), _strong(new), reward, ended


def _strong(state: Any) -> Any:
  """With the types of arrays, which stay what they are from step to step."""
  return jax.tree.map(lambda x: jnp.asarray(x, x.dtype), state)
