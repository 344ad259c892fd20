"""A variational autoencoder of binary images.

The images are bars: a bright row or column on a dark ground.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

SIZE, LATENTS, BATCH = 12, 8, 128


class VAE(nn.Module):
  @nn.compact
  def __call__(self, images, rng):
    h = nn.Dense(256)(images.reshape(len(images), -1))
    h = nn.gelu(h, approximate=False)
    mean, log_variance = nn.Dense(LATENTS)(h), nn.Dense(LATENTS)(h)
    noise = jax.random.normal(rng, mean.shape)
    z = mean + jnp.exp(log_variance / 2) * noise
    h = nn.Dense(256)(z)
    h = nn.gelu(h, approximate=False)
    logits = nn.Dense(SIZE * SIZE)(h).reshape(images.shape)
    return logits, mean, log_variance


class State(NamedTuple):
  step: jax.Array
  params: dict
  opt_state: optax.OptState


model, tx = VAE(), optax.adam(1e-3)


def loss_fn(params, images, rng):
  logits, mean, log_variance = model.apply({"params": params}, images, rng)
  losses = optax.sigmoid_binary_cross_entropy(logits, images)
  reconstruction = losses.sum(axis=(1, 2)).mean()
  divergence = 0.5 * jnp.sum(
    jnp.exp(log_variance) + mean**2 - 1 - log_variance, axis=1
  )
  metrics = {"reconstruction": reconstruction, "divergence": divergence.mean()}
  return reconstruction + divergence.mean(), metrics


@jax.jit
def train_step(state, images):
  rng = jax.random.fold_in(jax.random.key(1), state.step)
  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, metrics), grads = grad_fn(state.params, images, rng)
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return State(state.step + 1, params, opt_state), {"loss": loss, **metrics}


def batches(num_steps):
  for key in jax.random.split(jax.random.key(0), num_steps):
    bright = jax.random.randint(key, (BATCH, 1), 0, 2 * SIZE)
    rows = jnp.arange(SIZE)[None] == bright % SIZE
    images = jnp.broadcast_to(rows[:, :, None], (BATCH, SIZE, SIZE))
    flip = (bright >= SIZE)[..., None]
    yield jnp.where(flip, images, images.swapaxes(1, 2)).astype(jnp.float32)


def main(num_steps=400):
  images = jnp.zeros((1, SIZE, SIZE))
  variables = model.init(jax.random.key(0), images, jax.random.key(0))
  params = variables["params"]
  state = State(jnp.int32(0), params, tx.init(params))
  for i, images in enumerate(batches(num_steps)):
    state, metrics = train_step(state, images)
    if i % 80 == 0:
      print(i, {name: round(float(m), 4) for name, m in metrics.items()})
  return state, metrics


if __name__ == "__main__":
  main()
