"""Figures of a sweep: what a checkpoint does at other budgets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparse_regimes.reports.drawings import marker_of
from sparse_regimes.reports.intervals import wilson
from sparse_regimes.reports.pictures import (
  Axes,
  Figure,
  FuncFormatter,
  factor_ticks,
  legend_above,
  panels,
  plain,
)
from sparse_regimes.runs.tables import told_of

Rows = Sequence[Mapping[str, Any]]

# Told apart without colour, too: on grey paper the dashes are left.
_STYLES: tuple[dict[str, Any], ...] = (
  {"color": "#1b4965", "linestyle": "-", "marker": "o"},
  {"color": "#d1495b", "linestyle": "--", "marker": "s"},
  {"color": "#2a7f62", "linestyle": "-.", "marker": "^"},
  {"color": "#8c6bb1", "linestyle": ":", "marker": "D"},
  {"color": "#d98324", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
  {"color": "#6b4f3a", "linestyle": (0, (8, 2)), "marker": "P"},
  {"color": "#4a9ec4", "linestyle": (0, (1, 2)), "marker": "X"},
  {"color": "#777777", "linestyle": (0, (3, 3)), "marker": "*"},
)
_TITLES = {"loss": "Loss (nats)", "nonzero": "Nonzero fraction"}
# Of labels below a panel.
_LETTERS = 42
# Of the largest number of an axis, how much it spans.
_LEAST = 0.05
# Counted on examples, so that their number says how sure it is.
_COUNTED = "accuracy"
SITES = {
  "Nonzero fraction": "site_nonzero",
  "Threshold": "site_threshold",
  "Share of mass kept": "site_kept_mass",
  "Dead channels": "site_dead",
}


def sweep_panels(row: Mapping[str, Any]) -> dict[str, str]:
  """Titles of what a sweep's rows have a number of, and its name."""
  return {
    _TITLES.get(name, name.replace("_", " ").capitalize()): name
    for name in told_of(row)
  }


def known_of(sweep: Mapping[str, Any]) -> dict[str, Any]:
  """Arguments of :func:`budget_sweep` that a ``sweep.json`` tells.

  Files of older versions tell neither.
  """
  chance, count = sweep.get("chance"), sweep.get("num_scored")
  known = chance.items() if isinstance(chance, dict) else ()
  return {
    "chance": {
      name: value for name, value in known if type(value) in (int, float)
    },
    "num_scored": count if type(count) is int and count > 0 else 0,
  }


@plain
def budget_sweep(
  sweeps: Mapping[str, Rows],
  titles: Sequence[str] = (),
  *,
  chance: Mapping[str, float] | None = None,
  num_scored: int = 0,
) -> Figure:
  """Accuracy, loss, calibration and nonzero fraction over keep ratio.

  Args:
    sweeps: rows of :func:`sparse_regimes.analysis.budget_sweep.sweep` by
      the run's name.
    titles: of :func:`sweep_panels`, in two columns; by default all.
    chance: what who guesses has, by the name of the number, where it is known.
    num_scored: what an accuracy was counted on, for its interval of 95 %; 0
      for none.
  """
  wanted = sweep_panels(next(iter(sweeps.values()))[0])
  titles = titles or tuple(wanted)
  told = [*sweeps] if len(sweeps) > 1 else []
  figure, axes = panels(len(titles), sharex=True, legend=told)
  for ax, title in zip(axes, titles, strict=True):
    name = wanted[title]
    for i, (label, rows) in enumerate(sweeps.items()):
      style = _STYLES[i % len(_STYLES)]
      style = style | {"marker": _STYLES[marker_of(i)]["marker"]}
      rows = sorted(rows, key=lambda row: row["keep_ratio"])
      ratios = [row["keep_ratio"] for row in rows]
      values = [row.get(name, math.nan) for row in rows]
      ax.plot(ratios, values, label=label, markersize=4, lw=1.6, **style)
      if name == _COUNTED and num_scored:
        low, high = zip(*(wilson(v, num_scored) for v in values), strict=True)
        ax.fill_between(ratios, low, high, color=style["color"], alpha=0.15)
    if chance and name in chance:
      ax.axhline(chance[name], color="#555555", lw=1.2, ls=(0, (4, 3)))
      ax.text(
        *(0.99, chance[name], "chance"),
        transform=ax.get_yaxis_transform(),
        horizontalalignment="right",
        verticalalignment="bottom",
        fontsize=9,
        color="#555555",
      )
    ax.set_title(title, fontsize=12)
    _with_room(ax)
    _over_ratios(ax, sweeps)
  if told:
    legend_above(figure, axes[0], min(len(titles), 2))
  for ax in axes[-2:]:
    ax.set_xlabel("Keep ratio at test time", fontsize=11)
    # The last of an odd number has none below it, but shares its axis.
    ax.tick_params(labelbottom=True)
  return figure


@plain
def sweep_sites(rows: Rows, title: str, names: Sequence[str] = ()) -> Figure:
  """What every site does at every keep ratio.

  Args:
    rows: of :func:`sparse_regimes.analysis.budget_sweep.sweep`.
    title: of ``SITES``.
    names: of the sites, from input to output.
  """
  rows = sorted(rows, key=lambda row: row["keep_ratio"])
  values = np.array([row[SITES[title]] for row in rows], float)
  height = 1.4 + 0.15 * values.shape[1]
  figure, (ax,) = panels(1, height=height, measured=True)
  # A threshold may be anything, shares lie between 0 and 1.
  limits: dict[str, Any] = (
    {} if title == "Threshold" else {"vmin": 0, "vmax": 1}
  )
  image = ax.imshow(
    values.T, aspect="auto", interpolation="nearest", cmap="viridis", **limits
  )
  labels = [f"{row['keep_ratio']:.2g}" for row in rows]
  every = -(-len(rows) // 6)
  ax.set_xticks(range(0, len(rows), every), labels[::every])
  ax.set_xlabel("Keep ratio at test time", fontsize=11)
  if len(names) == values.shape[1]:
    ax.set_yticks(range(len(names)), names, fontsize=7)
  else:
    ax.set_ylabel("Site, from input")
  ax.set_title(title, fontsize=12)
  ax.grid(visible=False)
  figure.colorbar(image, ax=ax, pad=0.02)
  return figure


def _with_room(ax: Axes) -> None:
  """At least so much of an axis that differences of nothing look like it."""
  low, high = ax.get_ylim()
  least = _LEAST * max(abs(low), abs(high))
  if high - low < least:
    middle = (low + high) / 2
    ax.set_ylim(middle - least / 2, middle + least / 2)
  ax.ticklabel_format(axis="y", useOffset=False)


def _over_ratios(ax: Axes, sweeps: Mapping[str, Rows]) -> None:
  """A logarithmic axis whose ticks have room."""
  ratios = [row["keep_ratio"] for rows in sweeps.values() for row in rows]
  above = [ratio for ratio in ratios if ratio > 0]
  # A ratio of 0 alone has no place on a log axis.
  if above:
    ax.set_xscale("log")
    factor_ticks(ax, above, _LETTERS)
  else:
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
