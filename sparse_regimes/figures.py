"""Figures of a run, drawn from its records and its trace."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sparse_regimes.journal import Record
from sparse_regimes.trace import Trace

# Told apart without colour, too: on grey paper the dashes are left.
_TRAIN = {"color": "#555555", "linestyle": ":", "label": "train"}
_SPARSE = {
  "color": "#d1495b",
  "linestyle": "--",
  "label": "test, current budget",
  "zorder": 3,
}
_DENSE = {"color": "#1b4965", "linestyle": "-", "label": "test, dense"}
_BUDGET: dict[str, Any] = {"color": "#2a7f62", "linestyle": "-", "lw": 1.6}
_SWEEPS: tuple[dict[str, Any], ...] = (
  {"color": "#1b4965", "linestyle": "-", "marker": "o"},
  {"color": "#d1495b", "linestyle": "--", "marker": "s"},
  {"color": "#2a7f62", "linestyle": "-.", "marker": "^"},
  {"color": "#8c6bb1", "linestyle": ":", "marker": "D"},
)
_COLLAPSE: dict[str, Any] = {"color": "#d1495b", "alpha": 0.18, "lw": 0}
# More marks than this are a grey band, not marks.
_MOST_MARKS = 150


def curves(records: Sequence[Record], trace: Trace) -> Figure:
  """Loss, accuracy, keep ratio and nonzero fraction over epochs.

  Resets are marked on the keep ratio, collapses shaded everywhere.
  """
  panels: dict[str, dict[str, dict[str, Any]]] = {
    "Loss (nats)": {
      "train_loss": _TRAIN,
      "test_sparse_loss": _SPARSE,
      "test_dense_loss": _DENSE,
    },
    "Accuracy": {
      "train_accuracy": _TRAIN,
      "test_sparse_accuracy": _SPARSE,
      "test_dense_accuracy": _DENSE,
    },
    "Keep ratio": {},
    "Nonzero fraction": {
      "train_nonzero": _TRAIN,
      "test_sparse_nonzero": _SPARSE,
      "test_dense_nonzero": _DENSE,
    },
  }
  figure, axes = _panels(2, 2, sharex=True)
  marker = "o" if len(records) <= 40 else None
  for ax, (title, lines) in zip(axes, panels.items(), strict=True):
    for name, style in lines.items():
      _plot(ax, records, name, marker=marker, **style)
    ax.set_title(title, fontsize=12)
    if title == "Keep ratio":
      _plot_budget(ax, records, trace)
    if title != "Loss (nats)":
      ax.set_ylim(0, 1.03)
    _shade_collapses(ax, records, trace)
    if lines:
      ax.legend(fontsize=9, loc="best", framealpha=0.7)
  for ax in axes[2:]:
    _over_epochs(ax)
  return figure


def generalisation_gap(records: Sequence[Record], trace: Trace) -> Figure:
  """Accuracy on training and test images, and their difference."""
  figure, (left, right) = _panels(1, 2, height=3.4)
  details = [
    record | measured
    for record, measured in zip(records, trace.epochs, strict=False)
  ]
  for budget, style in (("sparse", _SPARSE), ("dense", _DENSE)):
    kept = "current budget" if budget == "sparse" else "dense"
    for split, width in (("train", 2.4), ("test", 1.2)):
      line = style | {"label": f"{split}, {kept}"}
      _plot(left, details, f"{split}_{budget}_accuracy", lw=width, **line)
    gaps = [
      d | {"gap": _minus(d, f"train_{budget}", f"test_{budget}")}
      for d in details
    ]
    _plot(right, gaps, "gap", **style | {"label": kept})
  left.set_title("Accuracy (thick: training images)", fontsize=12)
  left.set_ylim(0, 1.03)
  right.set_title("Train minus test accuracy", fontsize=12)
  for ax in (left, right):
    _over_epochs(ax)
    _shade_collapses(ax, records, trace)
    ax.legend(fontsize=9, loc="best", framealpha=0.7)
  return figure


def site_heat_map(trace: Trace) -> Figure:
  """The nonzero fraction at each site, from input to output, over epochs."""
  names = list(trace.site_multiply_adds)
  figure, axes = _panels(1, 2, height=1.6 + 0.16 * len(names), sharey=True)
  titles = {
    "test_dense_sites": "dense",
    "test_sparse_sites": "at the budget in force",
  }
  for ax, (field, title) in zip(axes, titles.items(), strict=True):
    values = np.array([epoch[field] for epoch in trace.epochs], float)
    extent = (0.5, len(values) + 0.5, len(names) - 0.5, -0.5)
    image = ax.imshow(
      values.T.reshape(len(names), -1),
      aspect="auto",
      interpolation="nearest",
      extent=extent,
      vmin=0,
      vmax=1,
      cmap="viridis",
    )
    ax.set_title(title, fontsize=12)
    ax.grid(visible=False)
    _over_epochs(ax)
  axes[0].set_yticks(range(len(names)), names, fontsize=7)
  bar = figure.colorbar(image, ax=list(axes), pad=0.02)
  bar.set_label("Nonzero fraction", fontsize=10)
  return figure


def budget_sweep(
  sweeps: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Figure:
  """Accuracy, loss, calibration and nonzero fraction over keep ratio.

  Args:
    sweeps: rows of :func:`sparse_regimes.sweep.sweep` by the run's name.
  """
  names = {
    "Accuracy": "accuracy",
    "Loss (nats)": "loss",
    "Calibration error": "calibration_error",
    "Nonzero fraction": "nonzero",
  }
  figure, axes = _panels(2, 2, sharex=True)
  for ax, (title, name) in zip(axes, names.items(), strict=True):
    for (label, rows), style in zip(
      sweeps.items(), itertools.cycle(_SWEEPS), strict=False
    ):
      ratios = [row["keep_ratio"] for row in rows]
      values = [row[name] for row in rows]
      ax.plot(ratios, values, label=label, markersize=4, lw=1.6, **style)
    ax.set_title(title, fontsize=12)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
  axes[0].set_ylim(0, 1.03)
  axes[0].legend(fontsize=9, loc="best", framealpha=0.7)
  for ax in axes[2:]:
    ax.set_xlabel("Keep ratio at test time", fontsize=11)
  return figure


def png(figure: Figure, dpi: int = 150) -> bytes:
  """The figure as a picture."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=dpi)
  return buffer.getvalue()


def _panels(
  rows: int, columns: int, *, height: float = 6.0, **arguments: Any
) -> tuple[Figure, list[Axes]]:
  figure = Figure(figsize=(9, height), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(rows, columns, squeeze=False, **arguments)
  for ax in axes.ravel():
    ax.grid(alpha=0.3)
  return figure, list(axes.ravel())


def _plot(ax: Axes, records: Sequence[Record], name: str, **style: Any) -> None:
  values = [math.nan if r[name] is None else r[name] for r in records]
  epochs = [r["epoch"] for r in records]
  ax.plot(epochs, values, **{"markersize": 3, "lw": 1.6} | style)


def _over_epochs(ax: Axes) -> None:
  ax.set_xlabel("Epoch", fontsize=11)
  ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _plot_budget(ax: Axes, records: Sequence[Record], trace: Trace) -> None:
  """Every move, at its step, rather than one value an epoch."""
  scale = _epochs_a_step(records)
  # A move counted from 1 acts from the end of the step before.
  moves = [(step - 1) * scale for step in trace.budget.steps]
  ratios = trace.budget.keep_ratios
  ax.plot(
    [*moves, trace.steps * scale],
    [*ratios, *ratios[-1:]],
    drawstyle="steps-post",
    **_BUDGET,
  )
  resets = [(c.start - 1) * scale for c in trace.budget.cycles(trace.steps)[1:]]
  if len(resets) <= _MOST_MARKS:
    for reset in resets:
      ax.axvline(reset, color="#555555", lw=0.7, ls=":")


def _shade_collapses(ax: Axes, records: Sequence[Record], trace: Trace) -> None:
  scale = _epochs_a_step(records)
  for start, end in trace.collapses:
    last = trace.steps if end is None else end
    ax.axvspan((start or 0) * scale, last * scale, **_COLLAPSE)


def _epochs_a_step(records: Sequence[Record]) -> float:
  return records[-1]["epoch"] / max(1, records[-1]["step"])


def _minus(details: Record, a: str, b: str) -> float | None:
  values = details[f"{a}_accuracy"], details[f"{b}_accuracy"]
  return None if None in values else values[0] - values[1]
