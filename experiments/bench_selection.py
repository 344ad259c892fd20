"""Times the selection alone: masks of 32 x 65536 float32.

Usage:
  python experiments/bench_selection.py [--platform=cpu]

Compares the threshold search with plain bisection (31 counting passes, no early
end), with ``lax.top_k`` and, where torch is installed, with ``torch.topk`` and
a scatter; in turns, so that the ratios hold on a noisy machine. Every mask is
checked against the reference. Writes ``results/bench_selection-PLATFORM.json``.
"""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench import counted, interleaved_milliseconds, write_results
from jax import lax

from sparse_regimes import num_kept, topk_mask
from sparse_regimes.masks.kernels.bits import ordered_bits
from sparse_regimes.masks.kernels.threshold import find_bounds, fold, search

ROWS, SIZE = 32, 65536
RATIOS = (0.001, 0.037, 0.2, 0.5, 0.999)


def make_data() -> dict[str, np.ndarray]:
  """Rows of many kinds, by name."""
  rng = np.random.default_rng(0)
  shape = (ROWS, SIZE)
  normal = rng.normal(size=shape)
  data = {
    "relu of normal": np.maximum(normal, 0),
    "normal": normal,
    "cauchy": rng.standard_cauchy(shape),
    "constant": np.full(shape, 3.5),
    "two-valued": rng.integers(0, 2, shape),
    "mostly zero": np.where(rng.random(shape) < 0.02, normal, 0),
    "already sparse": np.where(rng.random(shape) < 0.2, np.abs(normal), 0),
  }
  return {name: x.astype(np.float32) for name, x in data.items()}


@jax.jit
def bisection_mask(scores: jax.Array, keep_ratio: jax.Array) -> jax.Array:
  """The straightforward way: 31 counting passes, ties by a prefix sum."""
  kept = num_kept(scores.shape[1], keep_ratio)
  keys = ordered_bits(scores)

  def refine(i, low):
    higher = low + (jnp.int32(1) << (30 - i))
    count = jnp.sum(keys >= higher, axis=1, keepdims=True, dtype=jnp.int32)
    return jnp.where(count >= kept, higher, low)

  positive = jnp.sum(keys >= 0, axis=1, keepdims=True, dtype=jnp.int32) >= kept
  low = jnp.where(positive, 0, jnp.iinfo(jnp.int32).min)
  threshold = lax.fori_loop(0, 31, refine, low)
  above, tied = keys > threshold, keys == threshold
  wanted = kept - jnp.sum(above, axis=1, keepdims=True, dtype=jnp.int32)
  return above | (tied & (jnp.cumsum(tied, axis=1, dtype=jnp.int32) <= wanted))


@jax.jit
def known_threshold_mask(scores: jax.Array, threshold: jax.Array) -> jax.Array:
  """The floor: every score read once, every mask entry written once."""
  return scores >= threshold


@jax.jit
def num_passes(scores: jax.Array, keep_ratio: jax.Array) -> jax.Array:
  """How often the search counts before every row is done."""
  rows = fold(scores)
  keys = ordered_bits(rows)
  kept = jnp.full((len(rows), 1, 1), num_kept(SIZE, keep_ratio))
  bounds = find_bounds(rows, keys.dtype)
  return search(keys, kept, bounds=bounds, dtype=rows.dtype)[2]


def torch_call(scores: np.ndarray, keep_ratio: float):
  """``torch.topk`` and a scatter, or None without torch."""
  try:
    import torch
  except ImportError:
    return None
  x = torch.from_numpy(scores)
  kept = int(num_kept(scores.shape[1], keep_ratio))

  def call() -> np.ndarray:
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask.scatter_(1, torch.topk(x, kept, dim=1, sorted=False).indices, True)
    return mask.numpy()

  return call


def main() -> None:
  masks = {
    name: jax.jit(functools.partial(topk_mask, axis=1, implementation=how))
    for name, how in (("search", None), ("lax.top_k", "lax_top_k"))
  } | {"bisection": bisection_mask}
  rows: list[dict[str, Any]] = []
  print(f"{ROWS} x {SIZE} float32, milliseconds")
  print(f"{'data':>16} {'ratio':>6} {'passes':>6} {'floor':>6}", end="")
  print(f" {'search':>8} {'bisection':>10}", end="")
  print(f" {'lax.top_k':>10} {'torch.topk':>11}")
  data = make_data()
  for kind, ratio in counted([*itertools.product(data, RATIOS)]):
    scores = data[kind]
    x = jnp.asarray(scores)
    keep_ratio = jnp.float32(ratio)
    expected = np.asarray(masks["lax.top_k"](x, keep_ratio))
    for name in ("search", "bisection"):
      np.testing.assert_array_equal(masks[name](x, keep_ratio), expected)
    calls: dict[str, Any] = {
      name: functools.partial(masks[name], x, keep_ratio)
      for name in ("search", "bisection")
    }
    calls["floor"] = functools.partial(known_threshold_mask, x, keep_ratio)
    # The slow ones on the headline row only.
    headline = kind == "relu of normal" and ratio == 0.2
    if headline:
      calls["lax.top_k"] = functools.partial(masks["lax.top_k"], x, keep_ratio)
      torch_topk = torch_call(scores, ratio)
      if torch_topk is not None:
        calls["torch.topk"] = torch_topk
    times = interleaved_milliseconds(calls, rounds=15)
    passes = int(num_passes(x, keep_ratio))
    rows.append(
      {
        "data": kind,
        "keep_ratio": ratio,
        "passes": passes,
        "milliseconds": times,
      }
    )
    print(f"{kind:>16} {ratio:>6} {passes:>6}", end="")
    for name, width in (
      ("floor", 6),
      ("search", 8),
      ("bisection", 10),
      ("lax.top_k", 10),
      ("torch.topk", 11),
    ):
      text = f"{times[name]:.2f}" if name in times else ""
      print(f" {text:>{width}}", end="")
    print(flush=True)
  packages = ["jax", "jaxlib"]
  if any("torch.topk" in row["milliseconds"] for row in rows):
    packages.append("torch")
  write_results(f"bench_selection-{jax.default_backend()}", rows, packages)


if __name__ == "__main__":
  main()
