"""PPO on CartPole, whole runs of several seeds in one compiled program.

Barto, Sutton and Anderson's cart (1983): a pole on it is to stay upright for
200 steps. After Schulman et al., arXiv 1707.06347.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

NUM_ENVS, NUM_STEPS, NUM_EPOCHS, MINIBATCHES, LIMIT = 16, 128, 4, 4, 200


class ActorCritic(nn.Module):
  @nn.compact
  def __call__(self, x):
    h = x
    for _ in range(2):
      h = nn.Dense(64, kernel_init=nn.initializers.orthogonal(2**0.5))(h)
      h = nn.relu(h)
    logits = nn.Dense(2, kernel_init=nn.initializers.orthogonal(0.01))(h)
    return logits, nn.Dense(1)(h)[..., 0]


class State(NamedTuple):
  params: dict
  opt_state: optax.OptState


class Transition(NamedTuple):
  observation: jax.Array
  action: jax.Array
  log_prob: jax.Array
  value: jax.Array
  reward: jax.Array
  done: jax.Array
  returned: jax.Array  # by the episodes that ended in this rollout, their mean


model = ActorCritic()
tx = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(2.5e-3, eps=1e-5))


def reset(key):
  return jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)


def cart_pole(x, action):
  """One step of 20 ms: position, velocity, angle, angular velocity."""
  _, velocity, angle, spin = x
  force = jnp.where(action == 1, 10.0, -10.0)
  push = (force + 0.05 * spin**2 * jnp.sin(angle)) / 1.1
  turn = (9.8 * jnp.sin(angle) - jnp.cos(angle) * push) / (
    0.5 * (4 / 3 - 0.1 * jnp.cos(angle) ** 2 / 1.1)
  )
  speed_up = push - 0.05 * turn * jnp.cos(angle) / 1.1
  x = x + 0.02 * jnp.stack([velocity, speed_up, spin, turn])
  return x, (jnp.abs(x[0]) > 2.4) | (jnp.abs(x[2]) > 0.2095)


def log_prob_of(logits, action):
  log_probs = jax.nn.log_softmax(logits)
  return jnp.take_along_axis(log_probs, action[..., None], -1)[..., 0]


def rollout(forward, x, age, key):
  """``NUM_STEPS`` of all environments, which start anew when they end."""

  def act(carry, key):
    x, age = carry
    logits, value = forward(x)
    action = jax.random.categorical(key, logits)
    new_x, fell = jax.vmap(cart_pole)(x, action)
    done = fell | (age + 1 >= LIMIT)
    fresh = jax.vmap(reset)(jax.random.split(key, NUM_ENVS))
    step = Transition(
      *(x, action, log_prob_of(logits, action), value),
      *(jnp.ones(NUM_ENVS), done, jnp.zeros(NUM_ENVS)),
    )
    x = jnp.where(done[:, None], fresh, new_x)
    return (x, jnp.where(done, 0, age + 1)), (step, age)

  keys = jax.random.split(key, NUM_STEPS)
  (x, age), (steps, ages) = lax.scan(act, (x, age), keys)
  # What the episodes got that ended; what they have got if none did.
  ended = jnp.sum(steps.done)
  got = jnp.sum(jnp.where(steps.done, ages + 1, 0)) / jnp.maximum(ended, 1)
  got = jnp.where(ended > 0, got, jnp.mean(age, dtype=jnp.float32))
  return x, age, steps._replace(returned=jnp.full_like(steps.value, got))


def advantages_of(steps, last_value, discount=0.99, decay=0.95):
  def back(carry, step):
    advantage, next_value = carry
    going = 1.0 - step.done
    delta = step.reward + discount * next_value * going - step.value
    advantage = delta + discount * decay * going * advantage
    return (advantage, step.value), advantage

  zero = jnp.zeros_like(last_value)
  return lax.scan(back, (zero, last_value), steps, reverse=True)[1]


def loss_fn(params, batch):
  step, advantage, target = batch
  logits, value = model.apply({"params": params}, step.observation)
  ratio = jnp.exp(log_prob_of(logits, step.action) - step.log_prob)
  advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
  clipped = jnp.clip(ratio, 0.8, 1.2)
  actor = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
  critic = jnp.square(value - target).mean()
  probs = jax.nn.softmax(logits)
  entropy = -jnp.sum(probs * jax.nn.log_softmax(logits), axis=-1).mean()
  return actor + 0.5 * critic - 0.01 * entropy


def update(state, batch):
  loss, grads = jax.value_and_grad(loss_fn)(state.params, batch)
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return State(params, opt_state), {"loss": loss}


def train(seed, num_updates):
  """A whole run; returns the episodes' mean length after each rollout."""
  key, init_key = jax.random.split(jax.random.key(seed))
  params = model.init(init_key, jnp.zeros((1, 4)))["params"]
  state = State(params, tx.init(params))

  def iterate(carry, key):
    state, x, age = carry
    key, roll_key = jax.random.split(key)

    def forward(x):
      return model.apply({"params": state.params}, x)

    x, age, steps = rollout(forward, x, age, roll_key)
    advantages = advantages_of(steps, forward(x)[1])
    data = (steps, advantages, advantages + steps.value)
    data = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), data)

    def epoch(state, key):
      order = jax.random.permutation(key, NUM_ENVS * NUM_STEPS)
      shuffled = jax.tree.map(
        lambda a: a[order].reshape(MINIBATCHES, -1, *a.shape[1:]), data
      )
      return lax.scan(update, state, shuffled)

    state, metrics = lax.scan(epoch, state, jax.random.split(key, NUM_EPOCHS))
    last = jax.tree.map(lambda m: m[-1, -1], metrics)
    return (state, x, age), {"return": steps.returned[0, 0], **last}

  x = jax.vmap(reset)(jax.random.split(key, NUM_ENVS))
  age = jnp.zeros(NUM_ENVS, jnp.int32)
  keys = jax.random.split(key, num_updates)
  (state, _, _), metrics = lax.scan(iterate, (state, x, age), keys)
  return state, metrics


def main(num_updates=60, num_seeds=4):
  runs = jax.jit(jax.vmap(train, in_axes=(0, None)), static_argnums=1)
  state, metrics = runs(jnp.arange(num_seeds), num_updates)
  for i in range(0, num_updates, 10):
    print(i, {name: m[:, i].mean().round(4) for name, m in metrics.items()})
  return state, metrics


if __name__ == "__main__":
  main()
