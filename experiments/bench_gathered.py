"""What a budget buys at batch 1: the down projection that reads what is kept.

Usage:
  python experiments/bench_gathered.py [--rounds=31]

One token's MLP output is its hidden activations times a matrix, which takes as
long as reading the matrix. Here the rows of kept activations alone are read.
Timed in turns, by width: the dense product; at each keep ratio the gathered
product of activations that are masked already, the mask alone, and both; and a
whole decode step of a decoder of such a width with both. Every product is
checked. Writes ``results/bench_gathered-PLATFORM.json``.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import interleaved_milliseconds, write_results

from sparse_regimes import num_kept, sparsify
from sparse_regimes.layers import gathered_product
from sparse_regimes.layers.gathered import padded
from sparse_regimes.models import Transformer

WIDTHS = ((1024, 4096), (2048, 8192))
RATIOS = (1.0, 0.5, 0.2, 0.1, 0.05)


@jax.jit
def masked(hidden: jax.Array, ratio: jax.Array) -> jax.Array:
  """The mask by magnitude, as a decoder has it."""
  return sparsify(hidden, ratio, axis=0, score="magnitude")


@jax.jit
def dense_product(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
  return hidden @ kernel


gathered = jax.jit(gathered_product, static_argnums=2)


@functools.partial(jax.jit, static_argnums=3)
def masked_and_gathered(
  hidden: jax.Array, ratio: jax.Array, kernel: jax.Array, rows: int
) -> jax.Array:
  kept = sparsify(hidden, ratio, axis=0, score="magnitude")
  return gathered_product(kept, kernel, rows)


def time_products(features: int, width: int, rounds: int) -> list[dict]:
  """The down projection alone."""
  rng = np.random.default_rng(0)
  kernel = jnp.asarray(rng.normal(size=(width, features)), jnp.float32)
  hidden = jnp.asarray(rng.normal(size=width), jnp.float32)
  calls: dict[str, Any] = {
    "dense": functools.partial(dense_product, hidden, kernel)
  }
  for ratio in RATIOS:
    traced = jnp.float32(ratio)
    rows = padded(int(num_kept(width, ratio)), width)
    kept = masked(hidden, traced)
    np.testing.assert_allclose(
      gathered(kept, kernel, rows), kept @ kernel, rtol=1e-3, atol=1e-3
    )
    calls[f"gathered {ratio}"] = functools.partial(gathered, kept, kernel, rows)
    calls[f"mask {ratio}"] = functools.partial(masked, hidden, traced)
    calls[f"both {ratio}"] = functools.partial(
      masked_and_gathered, hidden, traced, kernel, rows
    )
  times = interleaved_milliseconds(calls, rounds=rounds)
  return [
    {
      "features": features,
      "width": width,
      "keep_ratio": ratio,
      "milliseconds": {
        "dense": times["dense"],
        **{k: times[f"{k} {ratio}"] for k in ("gathered", "mask", "both")},
      },
      "dense_over_gathered": times["dense"] / times[f"gathered {ratio}"],
      "dense_over_both": times["dense"] / times[f"both {ratio}"],
    }
    for ratio in RATIOS
  ]


def time_decode(features: int, width: int, rounds: int) -> list[dict]:
  """A token through two blocks: attention, MLPs, the vocabulary."""
  model = Transformer(
    depth=2, width=features, heads=16, mlp_width=width, context=128
  )
  token = jnp.zeros((1, 1), jnp.int32)
  variables = jax.jit(model.init)(jax.random.key(0), token, 1.0)
  cache = model.empty_cache()

  @functools.partial(jax.jit, static_argnums=1)
  def decode(ratio: jax.Array, rows: int | None) -> jax.Array:
    return model.apply(variables, token, ratio, cache=cache, num_gathered=rows)[
      0
    ]

  @jax.jit
  def plain() -> jax.Array:
    return model.apply(variables, token, 1.0, cache=cache)[0]

  calls: dict[str, Any] = {"dense": plain}
  for ratio in RATIOS:
    rows = padded(int(num_kept(width, ratio)), width)
    for name, number in (("masked", None), ("gathered", rows)):
      calls[f"{name} {ratio}"] = functools.partial(
        decode, jnp.float32(ratio), number
      )
  times = interleaved_milliseconds(calls, rounds=rounds)
  return [
    {
      "features": features,
      "width": width,
      "keep_ratio": ratio,
      "milliseconds": {
        "dense": times["dense"],
        **{k: times[f"{k} {ratio}"] for k in ("masked", "gathered")},
      },
      "dense_over_gathered": times["dense"] / times[f"gathered {ratio}"],
    }
    for ratio in RATIOS
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=int, default=31)
  args = parser.parse_args()
  rows, steps = [], []
  for features, width in WIDTHS:
    rows += time_products(features, width, args.rounds)
    for row in rows[-len(RATIOS) :]:
      print(dict(row.items()), flush=True)
    steps += time_decode(features, width, args.rounds)
    for row in steps[-len(RATIOS) :]:
      print(row, flush=True)
  write_results(
    f"bench_gathered-{jax.default_backend()}",
    rows,
    ("jax", "jaxlib"),
    decode_steps=steps,
  )


if __name__ == "__main__":
  main()
