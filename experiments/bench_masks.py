"""Times every mask beside top-k, forward and backward, at a keep ratio of 0.25.

Usage:
  python experiments/bench_masks.py [--rounds=15]

Two sites: that of the character language model (768 tokens of 512, GELU, a
budget a token) and one of a small residual network (128 images of 16 x 16 x 32,
ReLU, a budget an image). In turns, compiled, float32. Masks that remember
something are timed in training, with what they learn. Writes
``results/bench_masks-PLATFORM.json``.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from bench import interleaved_milliseconds, write_results

from sparse_regimes import SparseActivation

MASKS = (
  *("topk", "nm:4", "nm:16", "threshold", "threshold:channel", "statistical"),
  *("statistical:soft", "top_p", "max_p", "batch_topk", "expert:8"),
  "kwinners:1",
)
SITES: dict[str, dict[str, Any]] = {
  "language": {
    "shape": (768, 512),
    "fields": {"activation": "gelu", "score": "magnitude", "scope": "channel"},
  },
  "residual": {"shape": (128, 16, 16, 32), "fields": {}},
}


def call(shape: tuple[int, ...], ratio: float, **fields: Any) -> Callable:
  """Value and gradient of a site."""
  layer = SparseActivation(**fields)
  x = jax.random.normal(jax.random.key(0), shape)
  g = jax.random.normal(jax.random.key(1), shape)
  variables = layer.init(jax.random.key(0), x, ratio)

  @jax.jit
  def both(variables: Any, x: jax.Array, g: jax.Array, ratio: jax.Array) -> Any:
    def forward(x: jax.Array) -> Any:
      return layer.apply(variables, x, ratio, mutable=["masks"])

    y, pull, new = jax.vjp(forward, x, has_aux=True)
    return y, pull(g)[0], new

  return functools.partial(both, variables, x, g, jnp.float32(ratio))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--rounds", type=int, default=15)
  args = parser.parse_args()
  rows = []
  for name, site in SITES.items():
    calls = {
      mask: call(site["shape"], 0.25, mask=mask, **site["fields"])
      for mask in MASKS
    }
    calls["dense"] = call(site["shape"], 1.0, **site["fields"])
    times = interleaved_milliseconds(calls, rounds=args.rounds)
    ratios = {mask: time / times["topk"] for mask, time in times.items()}
    for mask, time in times.items():
      print(f"{name:>9} {mask:>18} {time:8.2f} ms  {ratios[mask]:6.2f}")
    rows.append({"site": name, "milliseconds": times, "over_topk": ratios})
  write_results(
    f"bench_masks-{jax.default_backend()}", rows, ("jax", "jaxlib", "flax")
  )


if __name__ == "__main__":
  main()
