"""Figures of a run, drawn from its records and its trace."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparse_regimes.reports.pictures import (
  Axes,
  Figure,
  colormaps,
  legend_above,
  over_epochs,
  panels,
  plain,
)
from sparse_regimes.runs.journal import Record, metric_of
from sparse_regimes.runs.trace import Trace

# Told apart without colour, too: on grey paper the dashes are left.
_TRAIN: dict[str, Any] = {
  "color": "#555555",
  "linestyle": ":",
  "label": "train",
}
_SPARSE: dict[str, Any] = {
  "color": "#d1495b",
  "linestyle": "--",
  "label": "test, current budget",
  "zorder": 3,
}
_DENSE: dict[str, Any] = {
  "color": "#1b4965",
  "linestyle": "-",
  "label": "test, dense",
}
_STYLES = (_TRAIN, _SPARSE, _DENSE)
_BUDGETS: dict[str, dict[str, Any]] = {"sparse": _SPARSE, "dense": _DENSE}
_KEPT = {"sparse": "current budget", "dense": "dense"}
# Widths of their lines: one of two that lie on each other is still seen.
_SPLITS = {"train": 2.6, "test": 1.2}
_BUDGET: dict[str, Any] = {"color": "#2a7f62", "linestyle": "-", "lw": 1.6}
# Panels of what lies between 0 and 1.
_SHARES = ("accuracy", "keep ratio", "nonzero fraction")
_COLLAPSE: dict[str, Any] = {"color": "#d1495b", "alpha": 0.18, "lw": 0}
# More marks than this are a band, not marks; they are finer above a few.
MOST_MARKS = 2000
_FEW_MARKS = 150


LOSS, KEEP_RATIO = "Loss (nats)", "Keep ratio"


def curve_panels(
  metric: str = "accuracy",
) -> dict[str, dict[str, dict[str, Any]]]:
  """What :func:`curves` draws: panels by title, lines by their number's name.

  Args:
    metric: of the run's task.
  """

  def lines(name: str) -> dict[str, dict[str, Any]]:
    return {
      f"train_{name}": _TRAIN,
      f"test_sparse_{name}": _SPARSE,
      f"test_dense_{name}": _DENSE,
    }

  # What beside an accuracy is lost is a cross entropy. Beside a return, an
  # evaluation's loss is the same with a minus, and that of training another.
  loss = LOSS if metric == "accuracy" else "Loss"
  losses = lines("loss")
  if metric == "return":
    losses = {"train_loss": losses["train_loss"]}
  return {
    loss: losses,
    metric.capitalize(): lines(metric),
    KEEP_RATIO: {},
    "Nonzero fraction": lines("nonzero"),
  }


SITES = {
  "Nonzero fraction, dense": "test_dense_sites",
  "Nonzero fraction, at the budget": "test_sparse_sites",
}

MEASURES = {
  "Active fraction": ("active", "linear"),
  "Outside the flat part": ("derivative", "linear"),
  "Augmented flatness": ("flatness", "log"),
  "Weight of sparsity in it": ("l0_coefficient", "log"),
}


@plain
def curves(
  records: Sequence[Record], trace: Trace, titles: Sequence[str] = ()
) -> Figure:
  """Loss, the task's metric, keep ratio and nonzero fraction over epochs.

  Resets are marked on the keep ratio, collapses shaded everywhere.

  Args:
    records: of the run, at least one.
    trace: of the run.
    titles: of :func:`curve_panels`, in two columns; by default all.
  """
  metric = metric_of(records[0])
  wanted = curve_panels(metric)
  titles = titles or tuple(wanted)
  told = [ax for ax, title in enumerate(titles) if wanted[title]]
  labels = [style["label"] for style in _STYLES] if told else []
  figure, axes = panels(len(titles), legend=labels, sharex=True)
  marker = "o" if len(records) <= 40 else None
  for ax, title in zip(axes, titles, strict=True):
    for name, style in wanted[title].items():
      _plot(ax, records, name, marker=marker, **style)
    ax.set_title(title, fontsize=12)
    if title == KEEP_RATIO:
      _plot_budget(ax, records, trace)
    if title.lower() in _SHARES:
      ax.set_ylim(0, 1.03)
    _shade_collapses(ax, records, trace)
  if told:
    # Of a return there is no test loss: another panel has every line.
    fullest = max(told, key=lambda ax: len(wanted[titles[ax]]))
    legend_above(figure, axes[fullest], min(len(titles), 2))
  for ax in axes[-2:]:
    over_epochs(ax)
  return figure


@plain
def both_splits(records: Sequence[Record], trace: Trace) -> Figure:
  """The metric on training and test examples, dense and at the budget."""
  told = [f"{split}, {kept}" for kept in _KEPT.values() for split in _SPLITS]
  figure, (ax,) = panels(1, legend=told)
  metric = metric_of(records[0])
  for budget, style in _BUDGETS.items():
    for split, width in _SPLITS.items():
      label = f"{split}, {_KEPT[budget]}"
      field = f"{split}_{budget}_{metric}"
      _plot(
        ax,
        _merged(records, trace),
        field,
        **style | {"lw": width, "label": label},
      )
  ax.set_title(f"{metric.capitalize()}, training and test", fontsize=12)
  if metric in _SHARES:
    ax.set_ylim(0, 1.03)
  _finish_over_epochs(figure, ax, records, trace)
  return figure


@plain
def generalisation_gap(records: Sequence[Record], trace: Trace) -> Figure:
  """Training minus test, dense and at the budget in force."""
  figure, (ax,) = panels(1, legend=[*_KEPT.values()])
  metric = metric_of(records[0])
  for budget, style in _BUDGETS.items():
    gaps = [
      measured
      | {
        "gap": _minus(
          measured[f"train_{budget}_{metric}"],
          measured[f"test_{budget}_{metric}"],
        )
      }
      for measured in _merged(records, trace)
    ]
    _plot(ax, gaps, "gap", **style | {"label": _KEPT[budget]})
  ax.set_title(f"Training minus test {metric}", fontsize=12)
  _finish_over_epochs(figure, ax, records, trace)
  return figure


@plain
def site_heat_map(trace: Trace, title: str) -> Figure:
  """The nonzero fraction at each site, from input to output, over epochs.

  Args:
    trace: of the run.
    title: of ``SITES``.
  """
  names = list(trace.site_multiply_adds)
  figure, (ax,) = panels(1, height=1.4 + 0.15 * len(names), measured=True)
  values = np.array([epoch[SITES[title]] for epoch in trace.epochs], float)
  image = ax.imshow(
    values.T.reshape(len(names), -1),
    aspect="auto",
    interpolation="nearest",
    extent=(0.5, len(values) + 0.5, len(names) - 0.5, -0.5),
    vmin=0,
    vmax=1,
    cmap="viridis",
  )
  ax.set_title(title, fontsize=12)
  ax.grid(visible=False)
  ax.set_yticks(range(len(names)), names, fontsize=7)
  over_epochs(ax)
  figure.colorbar(image, ax=ax, pad=0.02)
  return figure


@plain
def measures(epochs: Sequence[Mapping[str, Any]], title: str) -> Figure:
  """A measure of every site over epochs, a line each.

  Args:
    epochs: of :func:`sparse_regimes.runs.tables.read_measures`.
    title: of ``MEASURES``.
  """
  field, scale = MEASURES[title]
  figure, (ax,) = panels(1)
  names = list(epochs[-1]["sites"])
  for i, name in enumerate(names):
    values = [row["sites"][name][field] for row in epochs]
    ax.plot(
      [row["epoch"] for row in epochs],
      [math.nan if value is None else value for value in values],
      color=colormaps["viridis"](0.9 * i / max(1, len(names) - 1)),
      lw=1.4,
      marker="o" if len(epochs) <= 40 else None,
      markersize=3,
    )
  ax.set_title(title, fontsize=12)
  ax.set_yscale(scale)
  over_epochs(ax)
  return figure


def _plot(ax: Axes, records: Sequence[Record], name: str, **style: Any) -> None:
  values = [math.nan if r[name] is None else r[name] for r in records]
  epochs = [r["epoch"] for r in records]
  ax.plot(epochs, values, **{"markersize": 3, "lw": 1.6} | style)


def _merged(records: Sequence[Record], trace: Trace) -> list[Record]:
  """Records with their details."""
  pairs = zip(records, trace.epochs, strict=False)
  return [record | measured for record, measured in pairs]


def _finish_over_epochs(
  figure: Figure, ax: Axes, records: Sequence[Record], trace: Trace
) -> None:
  over_epochs(ax)
  _shade_collapses(ax, records, trace)
  legend_above(figure, ax, 1)


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
    marker="." if len(moves) <= MOST_MARKS else None,
    markersize=4 if len(moves) <= _FEW_MARKS else 1.5,
    **_BUDGET,
  )
  resets = [(c.start - 1) * scale for c in trace.budget.cycles(trace.steps)[1:]]
  if len(resets) <= MOST_MARKS:
    width = 0.7 if len(resets) <= _FEW_MARKS else 0.2
    whole = ax.get_xaxis_transform()
    ax.vlines(
      *(resets, 0, 1), transform=whole, color="#555555", lw=width, ls=":"
    )


def _shade_collapses(ax: Axes, records: Sequence[Record], trace: Trace) -> None:
  scale = _epochs_a_step(records)
  for start, end in trace.collapses[:MOST_MARKS]:
    last = trace.steps if end is None else end
    ax.axvspan((start or 0) * scale, last * scale, **_COLLAPSE)


def _epochs_a_step(records: Sequence[Record]) -> float:
  return records[-1]["epoch"] / max(1, records[-1]["step"])


def _minus(a: float | None, b: float | None) -> float | None:
  return None if a is None or b is None else a - b
