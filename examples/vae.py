"""A variational autoencoder of binary images.

The images are bars: a bright row or column on a dark ground.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import sparse_regimes as sr

SIZE, LATENTS, BATCH = 12, 8, 128


class VAE(nn.Module):
  @nn.compact
  def __call__(self, images, keep_ratio, rng):
    h = nn.Dense(256)(images.reshape(len(images), -1))
    h = sr.sparse_activation(h, keep_ratio, activation="gelu")
    mean, log_variance = nn.Dense(LATENTS)(h), nn.Dense(LATENTS)(h)
    noise = jax.random.normal(rng, mean.shape)
    z = mean + jnp.exp(log_variance / 2) * noise
    h = nn.Dense(256)(z)
    h = sr.sparse_activation(h, keep_ratio, activation="gelu")
    logits = nn.Dense(SIZE * SIZE)(h).reshape(images.shape)
    return logits, mean, log_variance


model, tx = VAE(), optax.adam(1e-3)
controller = sr.controllers.strategy1(signal="loss", drop_tol=5, decide_every=8)


def loss_fn(params, model_state, images, *, keep_ratio, rng):
  variables = {"params": params}
  logits, mean, log_variance = model.apply(variables, images, keep_ratio, rng)
  losses = optax.sigmoid_binary_cross_entropy(logits, images)
  reconstruction = losses.sum(axis=(1, 2)).mean()
  divergence = 0.5 * jnp.sum(
    jnp.exp(log_variance) + mean**2 - 1 - log_variance, axis=1
  )
  metrics = {"reconstruction": reconstruction, "divergence": divergence.mean()}
  return reconstruction + divergence.mean(), {"metrics": metrics}


def batches(num_steps):
  for key in jax.random.split(jax.random.key(0), num_steps):
    bright = jax.random.randint(key, (BATCH, 1), 0, 2 * SIZE)
    rows = jnp.arange(SIZE)[None] == bright % SIZE
    images = jnp.broadcast_to(rows[:, :, None], (BATCH, SIZE, SIZE))
    flip = (bright >= SIZE)[..., None]
    yield jnp.where(flip, images, images.swapaxes(1, 2)).astype(jnp.float32)


def main(num_steps=400):
  images = jnp.zeros((1, SIZE, SIZE))
  variables = model.init(jax.random.key(0), images, 1.0, jax.random.key(0))
  state = sr.TrainState.create(
    variables, tx=tx, controller=controller, rng=jax.random.key(1)
  )
  train_step = sr.make_step(loss_fn, tx, controller)
  for i, images in enumerate(batches(num_steps)):
    state, metrics = train_step(state, images)
    if i % 80 == 0:
      print(i, {name: round(float(m), 4) for name, m in metrics.items()})
  return state, metrics


if __name__ == "__main__":
  main()
