"""A sparse autoencoder of what a network computes, its budget falling to k.

It learns to write the activations of a trained language model as sums of few
of many directions. Without --workdir the language model is a small one of
Shakespeare, trained first. Which latents survive is decided for each token
(TopK, Gao et al., arXiv 2406.04093) or, with --selection=batch, among all
tokens of a batch (BatchTopK, Bussmann et al., arXiv 2412.06410), which in use
becomes a fixed threshold. A controller lowers the budget from 8 k to k.
"""

import argparse
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath

import sparse_regimes as sr
from sparse_regimes.data import text as texts
from sparse_regimes.runs.past_run import load_config, load_run

# Over which of the axes (token, latent) the latents of a batch compete.
AXES = {"token": -1, "batch": (0, 1)}
CONTEXT = 64
AUX_WEIGHT = 1 / 32
# A latent that so many tokens did not need is dead.
DEAD_AFTER = 8192
# Of the running mean of the smallest kept activation: about 100 steps.
THRESHOLD_DECAY = 0.99


class Network(NamedTuple):
  model: Any
  variables: Any
  train: Any  # windows of tokens, [n, context or more]
  test: Any


def train_network(num_steps, log):
  text = texts.load("shakespeare")
  model = sr.models.Transformer(
    **{"depth": 2, "width": 64, "positions": "rotary", "activation": "relu"},
    **{"vocabulary": text.num_tokens, "context": CONTEXT},
  )
  rate = optax.warmup_cosine_decay_schedule(0, 1e-2, 20, max(21, num_steps))
  tx = optax.adam(rate, b2=0.99)
  controller = sr.controllers.constant(1.0)
  tokens = jnp.zeros((1, CONTEXT), jnp.int32)
  state = sr.TrainState.create(
    jax.jit(model.init)(jax.random.key(0), tokens, 1.0),
    **{"tx": tx, "controller": controller, "rng": jax.random.key(1)},
  )
  loss_fn = sr.classification_loss(model.apply, inputs="tokens")
  step = sr.make_step(loss_fn, tx, controller)
  train, test = (
    texts.one_after_another(part, CONTEXT + 1, CONTEXT)
    for part in (text.train, text.test)
  )
  rng = np.random.default_rng(0)
  for _ in range(num_steps):
    rows = train[rng.integers(len(train), size=16)].astype(np.int32)
    batch = {"tokens": rows[:, :-1], "labels": rows[:, 1:]}
    state, metrics = step(state, batch)
  log(f"language model of {num_steps} steps: {metrics['loss']:.3f} nats")
  return Network(model, state.variables, train, test)


def load_network(workdir, log):
  config = load_config(epath.Path(workdir), "best")
  if config.task.name != "language":
    raise SystemExit(f"--workdir must hold a language run, got {workdir}")
  run = load_run(epath.Path(workdir), config, "best", log)
  parts = (run.task.train_examples, run.task.evaluation_sets["test"])
  windows = (part["tokens"] for part in parts)
  return Network(run.parts.model, run.state.variables, *windows)


def collect(network, windows, num_tokens, site, keep_ratio):
  """What the module at a path puts out, float32 ``[tokens, d]``."""
  context = network.model.context
  rows = np.random.default_rng(1).permutation(len(windows))
  # Of a long text no more is read than is looked at.
  windows = windows[np.sort(rows[: -(-num_tokens // context)])]
  windows = np.asarray(windows[:, :context], np.int32)
  found = set()

  def is_site(module, method):
    found.add("/".join(module.path))
    return "/".join(module.path) == site and method == "__call__"

  @jax.jit
  def look(windows):
    _, seen = network.model.apply(
      *(network.variables, windows, keep_ratio),
      capture_intermediates=is_site,
      mutable=["intermediates"],
    )
    seen = seen.get("intermediates", {})
    for name in site.split("/"):
      seen = seen.get(name, {})
    if "__call__" not in seen:
      names = ", ".join(sorted(found - {""}))
      raise SystemExit(f"--site must be one of {names}, got {site}")
    # A block returns its statistics, too; its output comes first.
    x = jax.tree.leaves(seen["__call__"])[0]
    return x.reshape(-1, x.shape[-1]).astype(jnp.float32)

  size = min(64, len(windows))
  parts = np.split(windows[: len(windows) // size * size], len(windows) // size)
  return np.concatenate([np.asarray(look(part)) for part in parts])


def ratio_of(k, num_latents):
  """The least ratio, as float32, that keeps k; of a batch k times its size."""
  ratio = np.float32(k / num_latents)
  below = float(ratio) * num_latents < k
  return float(np.nextafter(ratio, np.float32(2)) if below else ratio)


def init(key, x, num_latents):
  """Parameters and model state before the first step."""
  decoder = jax.random.normal(key, (num_latents, x.shape[-1]))
  decoder /= jnp.linalg.norm(decoder, axis=-1, keepdims=True)
  return {
    "params": {
      "encoder": decoder.T,
      "encoder_bias": jnp.zeros(num_latents),
      "decoder": decoder,
      "decoder_bias": jnp.asarray(x.mean(axis=0)),
    },
    "latents": {
      # Tokens since a latent was last active.
      "unused": jnp.zeros(num_latents, jnp.int32),
      "threshold": jnp.zeros(()),
    },
  }


def encode(params, x):
  """Pre-activations ``[tokens, latents]``."""
  centred = x - params["decoder_bias"][None]
  return centred @ params["encoder"] + params["encoder_bias"][None]


def decode(params, latents):
  return latents @ params["decoder"] + params["decoder_bias"][None]


def above_threshold(pre, threshold):
  """BatchTopK in use: no token depends on the others of its batch."""
  return jnp.where(pre > threshold, jax.nn.relu(pre), 0)


def variance(x):
  return jnp.sum(jnp.square(x - jnp.mean(x, axis=0, keepdims=True)))


def unexplained(x, reconstruction):
  """The fraction of variance unexplained."""
  return jnp.sum(jnp.square(x - reconstruction)) / variance(x)


def make_loss(selection, dead_after=DEAD_AFTER):
  def loss_fn(params, model_state, x, *, keep_ratio, rng):
    state = model_state["latents"]
    pre = encode(params, x)
    kept = sr.sparse_activation(pre, keep_ratio, axis=AXES[selection])
    reconstruction = decode(params, kept)
    fvu = unexplained(x, reconstruction)

    # What is left is predicted by the best of the dead, so that they come back
    # to life. They alone learn from it: the residual itself is a constant.
    dead = state["unused"] >= dead_after
    num_latents, num_aux = dead.size, min(dead.size, max(1, x.shape[-1] // 2))
    candidates = jnp.where(dead[None], pre, 0)
    aux = sr.sparse_activation(
      candidates, ratio_of(num_aux, num_latents), axis=-1
    )
    residual = jax.lax.stop_gradient(x - reconstruction)
    aux_loss = jnp.sum(jnp.square(residual - aux @ params["decoder"]))
    aux_loss *= jnp.minimum(jnp.sum(dead) / num_aux, 1) / variance(x)

    active = jnp.any(kept > 0, axis=0)
    smallest = jnp.min(jnp.where(kept > 0, kept, jnp.inf))
    smallest = jnp.where(jnp.any(active), smallest, state["threshold"])
    # The first step begins the mean; what is kept is above 0.
    decay = jnp.where(state["threshold"] > 0, THRESHOLD_DECAY, 0.0)
    new_state = {
      "unused": jnp.where(active, 0, state["unused"] + len(x)),
      "threshold": decay * state["threshold"] + (1 - decay) * smallest,
    }
    metrics = {
      "fvu": fvu,
      "dead": jnp.mean(dead, dtype=jnp.float32),
      "active": jnp.sum(kept > 0) / len(x),
    }
    aux_parts = {"model_state": {"latents": new_state}, "metrics": metrics}
    return fvu + AUX_WEIGHT * aux_loss, aux_parts

  return loss_fn


def unit_rows(optimizer):
  """An optimizer that keeps the rows of the decoder on the unit sphere."""

  def across(grads, params):
    # Along a row there is nothing to gain: its length is put back to 1. Adam's
    # moments would count that part nonetheless.
    rows, grad = params["decoder"], grads["decoder"]
    along = jnp.sum(grad * rows, axis=-1, keepdims=True)
    return {**grads, "decoder": grad - along * rows}

  def projected(updates, params):
    moved = params["decoder"] + updates["decoder"]
    moved /= jnp.linalg.norm(moved, axis=-1, keepdims=True)
    return {**updates, "decoder": moved - params["decoder"]}

  return optax.chain(
    optax.stateless(across), optimizer, optax.stateless(projected)
  )


def pca_fvu(train, test, num_components):
  mean = train.mean(axis=0, keepdims=True)
  _, vectors = np.linalg.eigh((train - mean).T @ (train - mean))
  rows = vectors[:, -num_components:].T
  return float(unexplained(test, mean + (test - mean) @ rows.T @ rows))


@functools.partial(jax.jit, static_argnums=3)
def pursuit_fvu(dictionary, mean, x, k):
  """Of k rows a token, each the best for what is left, with the best weights.

  Orthogonal matching pursuit: more than an encoder can do in one pass.
  """

  def of_token(x):
    left, rows = x, jnp.zeros((k, x.size))
    for i in range(k):
      best = jnp.argmax(jnp.abs(dictionary @ left))
      rows = rows.at[i].set(dictionary[best])
      gram = rows @ rows.T + jnp.diag(jnp.where(jnp.arange(k) > i, 1.0, 1e-6))
      left = x - jnp.linalg.solve(gram, rows @ x) @ rows
    return left

  return jnp.sum(jnp.square(jax.vmap(of_token)(x - mean[None]))) / variance(x)


def train_autoencoder(train, args, log):
  # With few latents from the start most would never be active.
  controller = sr.controllers.k_decay(
    keep_init=min(1.0, 8 * args.k / args.latents),
    keep_final=ratio_of(args.k, args.latents),
    k_decay_steps=max(1, args.steps // 2),
  )
  rate = optax.linear_schedule(3e-3, 0, args.steps * 4 // 5, args.steps // 5)
  tx = unit_rows(optax.adam(rate))
  state = sr.TrainState.create(
    init(jax.random.key(0), train, args.latents),
    **{"tx": tx, "controller": controller, "rng": jax.random.key(1)},
  )
  step = sr.make_step(make_loss(args.selection), tx, controller)
  rng, history = np.random.default_rng(0), []
  log("  step  keep ratio      k     FVU   dead")
  for i in range(args.steps):
    x = train[rng.integers(len(train), size=args.batch)]
    state, metrics = step(state, x)
    if i % max(1, args.steps // 10) == 0 or i == args.steps - 1:
      row = {name: float(value) for name, value in metrics.items()}
      history.append({"step": i, **row})
      k = row["keep_ratio"] * args.latents
      log(
        f"{i:6} {row['keep_ratio']:11.4f} {k:6.1f} {row['fvu']:7.4f}"
        f" {row['dead']:6.1%}"
      )
  return state, history


def evaluate(state, train, test, args, log):
  """FVU on test tokens, beside that of other ways to keep k numbers."""
  params, threshold = state.params, state.model_state["latents"]["threshold"]
  pre = encode(params, test)
  ratio = ratio_of(args.k, args.latents)
  result = {}
  # The rule of training; where that is of a batch, in batches as in training.
  size = args.batch if args.selection == "batch" else len(test)
  whole = test[: max(1, len(test) // size) * size]
  parts = [
    sr.sparse_activation(part, ratio, axis=AXES[args.selection])
    for part in jnp.split(pre[: len(whole)], max(1, len(whole) // size))
  ]
  kept = {args.selection: jnp.concatenate(parts)}
  if args.selection == "batch":
    kept["threshold"] = above_threshold(pre[: len(whole)], threshold)
  for name, latents in kept.items():
    result[name] = float(unexplained(whole, decode(params, latents)))
    number = float(jnp.sum(latents > 0) / len(whole))
    log(f"{name:>22} rule: FVU {result[name]:.4f}, {number:.2f} a token")
  if args.selection == "batch":
    result["difference"] = result["threshold"] - result["batch"]
    log(f"{'threshold less batch':>27}: {result['difference']:+.4f}")
  result["pca"] = pca_fvu(train, test, args.k)
  log(f"{f'PCA, {args.k} components':>27}: FVU {result['pca']:.4f}")
  # Which latents are kept is a number each, too.
  result["pca_2k"] = pca_fvu(train, test, min(2 * args.k, test.shape[1]))
  log(f"{f'PCA, {2 * args.k} components':>27}: FVU {result['pca_2k']:.4f}")
  random = init(jax.random.key(2), train, args.latents)["params"]["decoder"]
  mean = train.mean(axis=0)
  result["random"] = float(pursuit_fvu(random, mean, test[:2048], args.k))
  log(f"{f'random dictionary, {args.k}':>27}: FVU {result['random']:.4f}")
  return result


def main(argv=None, log=print):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  for name, default, about in (
    ("workdir", "", "a finished run of the task language"),
    ("site", "", "module whose output is taken (default: blockN/mlp, middle)"),
    ("keep_ratio", 1.0, "the language model's own, as it is looked at"),
    ("selection", "token", "token or batch: what shares a budget"),
    ("latents", 512, "how many"),
    ("k", 8, "kept of them for a token, at last; batch: on average"),
    ("steps", 800, "of the autoencoder"),
    ("batch", 512, "tokens in a step"),
    ("tokens", 65_536, "whose activations are collected"),
    ("network_steps", 400, "of the language model, where it is trained here"),
  ):
    more = {"choices": [*AXES]} if name == "selection" else {}
    about += f" (default: {default})" if default else ""
    kind = type(default)
    parser.add_argument(
      f"--{name}", type=kind, default=default, help=about, **more
    )
  args = parser.parse_args(argv)
  if args.workdir:
    network = load_network(args.workdir, log)
  else:
    network = train_network(args.network_steps, log)
  # The hidden activations of the middle block.
  site = args.site or f"block{(network.model.depth - 1) // 2}/mlp"
  train, test = (
    collect(network, windows, num_tokens, site, args.keep_ratio)
    for windows, num_tokens in (
      (network.train, args.tokens),
      (network.test, min(args.tokens, 8192)),
    )
  )
  # Learning rates are of activations of about 1.
  scale = np.sqrt(np.mean(np.square(train)))
  train, test = train / scale, test / scale
  log(f"{site}: {len(train)} activations of {train.shape[1]}")
  state, history = train_autoencoder(train, args, log)
  return state, history, evaluate(state, train, test, args, log)


if __name__ == "__main__":
  main()
