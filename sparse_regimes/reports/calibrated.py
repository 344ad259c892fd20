"""What thresholds cost that nobody trained for: a figure."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from matplotlib.ticker import FuncFormatter

from sparse_regimes.reports.pictures import Figure, FigureCanvasAgg, plain

_WAYS = {
  "uniform": {"linestyle": "--", "marker": "s", "label": "uniform thresholds"},
  "greedy": {"linestyle": "-", "marker": "o", "label": "greedy thresholds"},
  "topk": {"linestyle": ":", "marker": "^", "label": "top-k"},
}
_COLORS = ("#1b4965", "#d1495b", "#2a7f62", "#8c6bb1", "#d98324")


@plain
def calibration_figure(found: Mapping[str, Mapping[str, Any]]) -> Figure:
  """Error and score over sparsity, of each run and way.

  Args:
    found: contents of ``calibration.json`` by run.
  """
  figure = Figure(figsize=(10, 4.2), layout="constrained")
  FigureCanvasAgg(figure)
  errors, scores = figure.subplots(1, 2)
  for (run, content), color in zip(found.items(), _COLORS * 9, strict=False):
    points = content["points"]
    x = [point["sparsity"] for point in points]
    name = PurePath(run).name if len(found) > 1 else ""
    for way, style in _WAYS.items():
      label = f"{name} {style['label']}".strip()
      shown = {**style, "label": label, "color": color, "ms": 4, "lw": 1.5}
      scores.plot(x, [point[way]["score"] for point in points], **shown)
      if way != "topk":
        errors.plot(x, [point[way]["error"] for point in points], **shown)
  score = next(iter(found.values()))["score"]
  errors.set_ylabel("distance of outputs from dense ones")
  scores.set_ylabel("test loss (nats)" if score == "loss" else f"test {score}")
  for ax in (errors, scores):
    ax.set_xlabel("share of each site set to 0")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.grid(alpha=0.3)
  errors.legend(fontsize=8)
  scores.legend(fontsize=8)
  return figure
