"""Draws what every mask keeps: the figures of docs/methods.md.

Usage:
  python experiments/methods_figures.py

For each mask ``results/methods/NAME.png``: on the left 12 tokens of 32 units at
a keep ratio of 0.25, what is kept in blue; on the right the share that is kept
over the keep ratio, of normal scores, of GELU's output and of heavy tails
(Student's t with 2 degrees of freedom), 512 tokens of 128 units. Scores are
magnitudes, of the statistical masks values.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sparse_regimes import SparseActivation
from sparse_regimes.masks.activations import get_activation
from sparse_regimes.reports.pictures import (
  Figure,
  FigureCanvasAgg,
  plain,
  png,
)

MASKS = (
  *("topk", "nm:4", "threshold", "threshold:channel", "statistical"),
  *("statistical:soft", "top_p", "max_p", "batch_topk", "expert:8"),
  "kwinners:2",
)
RESULTS = Path(__file__).parent / "results" / "methods"
_STYLES = {
  "normal": {"color": "#1b4965", "linestyle": "-"},
  "GELU": {"color": "#2a7f62", "linestyle": "--"},
  "heavy tails": {"color": "#d1495b", "linestyle": "-."},
}


def scores_of(tokens: int, units: int) -> dict[str, jax.Array]:
  """Scores by the distribution they are drawn from."""
  rng = np.random.default_rng(0)
  normal = jnp.asarray(rng.normal(size=(tokens, units)), jnp.float32)
  heavy = rng.standard_t(2, size=(tokens, units))
  return {
    "normal": normal,
    "GELU": get_activation("gelu")(normal),
    "heavy tails": jnp.asarray(heavy, jnp.float32),
  }


def kept(mask: str, x: jax.Array, ratio: float) -> jax.Array:
  """What is not zero, after a mask that remembers has seen a batch."""
  score = "value" if mask.startswith("statistical") else "magnitude"
  layer = SparseActivation("identity", "channel", score, mask=mask)
  variables = layer.init(jax.random.key(0), x, ratio)
  for _ in range(3):
    y, new = layer.apply(variables, x, ratio, mutable=["masks"])
    variables = {**variables, **new}
  return y != 0


@plain
def figure_of(mask: str) -> Figure:
  """What it keeps, and how much."""
  figure = Figure(figsize=(8, 2.6), layout="constrained")
  FigureCanvasAgg(figure)
  left, right = figure.subplots(1, 2)
  x = scores_of(12, 32)["normal"]
  shown = np.where(kept(mask, x, 0.25), np.abs(x), -0.6)
  left.imshow(shown, cmap="Blues", vmin=-0.6, vmax=2.5, aspect="auto")
  left.set_xlabel("unit")
  left.set_ylabel("token")
  left.grid(visible=False)
  ratios = np.linspace(0.02, 1, 50)
  for name, scores in scores_of(512, 128).items():
    shares = [float(jnp.mean(kept(mask, scores, r))) for r in ratios]
    right.plot(ratios, shares, label=name, lw=1.6, **_STYLES[name])
  right.plot(ratios, ratios, color="#999999", lw=0.8)
  right.set_xlabel("keep ratio")
  right.set_ylabel("share kept")
  right.grid(alpha=0.3)
  right.legend(fontsize=8)
  return figure


def main() -> None:
  RESULTS.mkdir(parents=True, exist_ok=True)
  for mask in MASKS:
    path = RESULTS / f"{mask.replace(':', '_')}.png"
    path.write_bytes(png(figure_of(mask), 90))
    print(path.name)


if __name__ == "__main__":
  main()
