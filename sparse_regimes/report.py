"""Figures of a run, drawn from its records."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sparse_regimes.files import write
from sparse_regimes.journal import Record

# Told apart without colour, too: on grey paper the dashes are left.
_TRAIN = {"color": "#555555", "linestyle": ":", "label": "train"}
_SPARSE = {
  "color": "#d1495b",
  "linestyle": "--",
  "label": "test, current budget",
  "zorder": 3,
}
_DENSE = {"color": "#1b4965", "linestyle": "-", "label": "test, dense"}
_BUDGET = {"color": "#2a7f62", "linestyle": "-", "label": "keep ratio"}
_SWEEPS = (
  {"color": "#1b4965", "linestyle": "-", "marker": "o"},
  {"color": "#d1495b", "linestyle": "--", "marker": "s"},
  {"color": "#2a7f62", "linestyle": "-.", "marker": "^"},
  {"color": "#8c6bb1", "linestyle": ":", "marker": "D"},
)


def draw_curves(records: Sequence[Record], path: epath.Path) -> None:
  """Draws loss, accuracy, keep ratio and nonzero fraction over epochs.

  The picture is replaced at once, so that a viewer never sees half of it.

  Args:
    records: one an epoch, with the names of ``metrics.jsonl``.
    path: a PNG.
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
    "Keep ratio": {"keep_ratio": _BUDGET},
    "Nonzero fraction": {
      "train_nonzero": _TRAIN,
      "test_sparse_nonzero": _SPARSE,
      "test_dense_nonzero": _DENSE,
    },
  }
  figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(2, 2, sharex=True).ravel()
  epochs = [r["epoch"] for r in records]
  marker = "o" if len(records) <= 40 else None
  for ax, (title, curves) in zip(axes, panels.items(), strict=True):
    for name, style in curves.items():
      values = [math.nan if r[name] is None else r[name] for r in records]
      ax.plot(epochs, values, marker=marker, markersize=3, lw=1.6, **style)
    ax.set_title(title, fontsize=12)
    ax.grid(alpha=0.3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if title != "Loss (nats)":
      ax.set_ylim(0, 1.03)
    if len(curves) > 1:
      ax.legend(fontsize=9, loc="best", framealpha=0.7)
  for ax in axes[2:]:
    ax.set_xlabel("Epoch", fontsize=11)
  _save(figure, path)


def draw_sweep(
  sweeps: Mapping[str, Sequence[Mapping[str, Any]]], path: epath.Path
) -> None:
  """Draws accuracy, loss, calibration and nonzero fraction over keep ratio.

  Args:
    sweeps: rows of :func:`sparse_regimes.sweep.sweep` by the run's name.
    path: a PNG.
  """
  panels = {
    "Accuracy": "accuracy",
    "Loss (nats)": "loss",
    "Calibration error": "calibration_error",
    "Nonzero fraction": "nonzero",
  }
  figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.subplots(2, 2, sharex=True).ravel()
  for ax, (title, name) in zip(axes, panels.items(), strict=True):
    for (label, rows), style in zip(
      sweeps.items(), itertools.cycle(_SWEEPS), strict=False
    ):
      ratios = [row["keep_ratio"] for row in rows]
      values = [row[name] for row in rows]
      ax.plot(ratios, values, label=label, markersize=4, lw=1.6, **style)
    ax.set_title(title, fontsize=12)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.grid(alpha=0.3)
  axes[0].set_ylim(0, 1.03)
  axes[0].legend(fontsize=9, loc="best", framealpha=0.7)
  for ax in axes[2:]:
    ax.set_xlabel("Keep ratio at test time", fontsize=11)
  _save(figure, path)


def _save(figure: Figure, path: epath.Path) -> None:
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png")
  write(path, buffer.getvalue())
