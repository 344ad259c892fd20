"""Proximal policy optimisation under a budget, as one pure step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sparse_regimes.controllers import Controller
from sparse_regimes.tasks.reinforcement.environment import Environment
from sparse_regimes.training.finiteness import Learned, stays_finite
from sparse_regimes.training.state import TrainState
from sparse_regimes.training.step import Metrics, TrainStep, make_step

# ``(variables, observations, keep_ratio) -> ((logits, values), stats)``
Apply = Callable[..., Any]


class Hyper(NamedTuple):
  """Numbers of PPO; the defaults are those of PureJaxRL.

  Attributes:
    num_steps: of each environment in a rollout.
    num_epochs: in which a rollout is learned.
    num_minibatches: of an epoch.
    discount: of later rewards.
    gae_lambda: of later errors of the values.
    clip: how far the probability of an action may move, and a value.
    entropy: weight of the entropy.
    value: weight of the values' error.
  """

  num_steps: int = 128
  num_epochs: int = 4
  num_minibatches: int = 4
  discount: float = 0.99
  gae_lambda: float = 0.95
  clip: float = 0.2
  entropy: float = 0.01
  value: float = 0.5


class Playing(NamedTuple):
  """Where the environments are, from one rollout to the next.

  Attributes:
    observation: ``[n, ...]``.
    state: of the environments.
    so_far: what each got in its episode, ``[n]``.
    last: the mean of the episodes that ended last, scalar.
  """

  observation: jax.Array
  state: Any
  so_far: jax.Array
  last: jax.Array


class Transition(NamedTuple):
  """A step of every environment; ``[num_steps, n]`` in a rollout."""

  observation: jax.Array
  action: jax.Array
  log_prob: jax.Array
  value: jax.Array
  reward: jax.Array
  ended: jax.Array
  # Of the episode that ended here; NaN where none did.
  returned: jax.Array


def start(env: Environment, num_envs: int, key: jax.Array) -> Playing:
  """Environments at their beginning."""
  observation, state = env.reset(jax.random.split(key, num_envs))
  zeros = jnp.zeros(num_envs, jnp.float32)
  return Playing(observation, state, zeros, jnp.zeros((), jnp.float32))


def make_ppo_step(
  apply_fn: Apply,
  env: Environment,
  tx: optax.GradientTransformation,
  controller: Controller,
  hyper: Hyper,
) -> TrainStep:
  r"""A rollout, the updates that learn it, and the controller's decision.

  .. math:: L = -\mathrm{mean}\,\min(\rho A,\ \mathrm{clip}(\rho) A)
     + c_v L_v - c_e H

  with :math:`\rho` the probability of an action over what it was, A the
  advantage (generalised estimation), normalised in a minibatch. The budget
  stays what it is for the rollout and its updates; what the controller decides
  acts from the next step on. A step of which any number comes out not finite
  plays on, and learns nothing.

  Args:
    apply_fn: ``apply_fn(variables, observations, keep_ratio) -> ((logits,
      values), stats)``.
    env: see :class:`Environment`.
    tx: the optimizer; it makes ``num_epochs * num_minibatches`` updates.
    controller: its signals are ``return``, the mean over the episodes that
      ended in the rollout, or NaN; ``loss``; and ``stats``.
    hyper: see :class:`Hyper`.

  Returns:
    ``step(state, _) -> (state, metrics)``, not compiled, so that it may be
    mapped over seeds. ``state.extra["task"]`` is the :class:`Playing` that
    :func:`start` begins.

  Source: Schulman et al., arXiv 1707.06347, with the details of PureJaxRL (Lu
    et al., 2022); budgets and signal are ours.
  """
  # Within a step the budget stays.
  waiting = Controller(
    init=controller.init, update=lambda state, **signals: state
  )
  update = make_step(
    ppo_loss(apply_fn, hyper),
    tx,
    waiting,
    # Looked at once, after all updates.
    skip_nonfinite=False,
    donate_state=False,
    jit=False,
  )

  def step(state: TrainState, _: Any) -> tuple[TrainState, Metrics]:
    keep_ratio = state.controller_state.keep_ratio
    key = jax.random.fold_in(state.rng, state.step)
    play_key, order_key = jax.random.split(key)

    def forward(observation: jax.Array) -> Any:
      return apply_fn(state.variables, observation, keep_ratio)

    def act(observation: jax.Array) -> Any:
      # One condition, rather than one at each site: in so small a network that
      # is seen.
      variables = state.variables
      return lax.cond(
        jnp.all(keep_ratio >= 1),
        lambda x: apply_fn(variables, x, 1.0)[0],
        lambda x: apply_fn(variables, x, keep_ratio)[0],
        observation,
      )

    playing, steps = rollout(
      act,
      env,
      state.extra["task"],
      hyper.num_steps,
      play_key,
    )
    # In one go, as counting at every step of the rollout takes longer.
    seen = jnp.concatenate([steps.observation, playing.observation[None]])
    (_, values), stats = forward(seen.reshape(-1, *seen.shape[2:]))
    last_value = values[-len(playing.observation) :]
    advantage = advantages(steps, last_value, hyper.discount, hyper.gae_lambda)
    data = steps, advantage, advantage + steps.value
    data = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), data)

    def epoch(inner: TrainState, key: jax.Array) -> Any:
      order = jax.random.permutation(key, len(data[1]))
      batches = jax.tree.map(
        lambda x: x[order].reshape(hyper.num_minibatches, -1, *x.shape[1:]),
        data,
      )
      return lax.scan(update, inner, batches)

    keys = jax.random.split(order_key, hyper.num_epochs)
    learned, told = lax.scan(epoch, state, keys)
    ended = jnp.sum(steps.ended)
    returned = jnp.nansum(steps.returned) / jnp.maximum(ended, 1)
    returned = jnp.where(ended > 0, returned, jnp.nan).astype(jnp.float32)
    playing = playing._replace(
      last=jnp.where(ended > 0, returned, playing.last)
    )
    loss = jnp.mean(told["loss"])
    new, old = (
      Learned(s.params, s.model_state, s.opt_state) for s in (learned, state)
    )
    finite = stays_finite(loss, new.params, new, old)
    new = jax.tree.map(functools.partial(jnp.where, finite), new, old)
    heard = {"loss": loss, "stats": stats, "return": returned}
    controller_state = controller.update(
      state.controller_state,
      **jax.tree.map(lambda x: jnp.where(finite, x, jnp.nan), heard),
    )
    new_state = state.replace(
      step=state.step + 1,
      controller_state=controller_state,
      extra={**state.extra, "task": playing},
      **new._asdict(),
    )
    return new_state, {
      "loss": loss,
      "return": playing.last,
      "nonzero": jnp.mean(stats),
      "keep_ratio": keep_ratio,
      "skipped": 1.0 - finite.astype(jnp.float32),
      "collapsed": jnp.asarray(
        getattr(controller_state, "collapsed", False), jnp.float32
      ),
    }

  return step


def rollout(
  forward: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
  env: Environment,
  playing: Playing,
  num_steps: int,
  key: jax.Array,
) -> tuple[Playing, Transition]:
  """Lets every environment take steps.

  Args:
    forward: logits and values of observations.
    env: see :class:`Environment`.
    playing: where the environments are.
    num_steps: of each.
    key: of the actions and of the environments.

  Returns:
    Where they are then, and what happened.
  """

  def act(now: Playing, drawn: tuple[jax.Array, jax.Array]) -> Any:
    noise, keys = drawn
    logits, value = forward(now.observation)
    action = jnp.argmax(logits + noise, axis=-1)
    observation, state, reward, ended = env.step(keys, now.state, action)
    got = now.so_far + reward
    done = Transition(
      *(now.observation, action, log_prob_of(logits, action), value),
      *(reward, ended, jnp.where(ended, got, jnp.nan)),
    )
    so_far = jnp.where(ended, 0.0, got)
    now = now._replace(observation=observation, state=state, so_far=so_far)
    return now, done

  # All of chance at once: in a loop, drawing takes longer than acting.
  act_key, step_key = jax.random.split(key)
  size = num_steps, len(playing.so_far)
  noise = jax.random.gumbel(act_key, (*size, env.num_actions), jnp.float32)
  keys = jax.random.split(step_key, size)
  return lax.scan(act, playing, (noise, keys))


def advantages(
  steps: Transition, last_value: jax.Array, discount: float, decay: float
) -> jax.Array:
  r"""Generalised advantage estimates, ``[num_steps, n]``.

  .. math:: \delta_t = r_t + \gamma V_{t+1} - V_t, \quad
     A_t = \delta_t + \gamma \lambda A_{t+1}

  with nothing after the end of an episode.

  Source: Schulman et al., arXiv 1506.02438.
  """

  def back(carry: Any, step: Transition) -> Any:
    advantage, next_value = carry
    going = 1.0 - step.ended.astype(jnp.float32)
    delta = step.reward + discount * next_value * going - step.value
    advantage = delta + discount * decay * going * advantage
    return (advantage, step.value), advantage

  begin = jnp.zeros_like(last_value), last_value
  return lax.scan(back, begin, steps, reverse=True)[1]


def ppo_loss(apply_fn: Apply, hyper: Hyper) -> Callable[..., Any]:
  """The loss of a minibatch, for :func:`sparse_regimes.make_step`."""

  def loss_fn(
    params: Any, model_state: Any, batch: Any, *, keep_ratio: Any, rng: Any
  ) -> tuple[jax.Array, dict[str, Any]]:
    del rng
    old, advantage, target = batch
    variables = {"params": params, **model_state}
    (logits, value), _ = apply_fn(variables, old.observation, keep_ratio)
    moved = jnp.clip(value - old.value, -hyper.clip, hyper.clip)
    errors = (jnp.square(v - target) for v in (value, old.value + moved))
    value_loss = 0.5 * jnp.mean(jnp.maximum(*errors))
    ratio = jnp.exp(log_prob_of(logits, old.action) - old.log_prob)
    advantage = (advantage - jnp.mean(advantage)) / (jnp.std(advantage) + 1e-8)
    clipped = jnp.clip(ratio, 1 - hyper.clip, 1 + hyper.clip)
    actor = -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))
    log_probs = jax.nn.log_softmax(logits)
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1))
    loss = actor + hyper.value * value_loss - hyper.entropy * entropy
    return loss, {}

  return loss_fn


def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
  """Of the actions that were taken."""
  log_probs = jax.nn.log_softmax(logits)
  return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]
