"""Matplotlib without the settings of whoever runs us.

A notebook's ``MPLBACKEND`` may name what is not installed here, and a user's
``matplotlibrc`` may ask for LaTeX; neither is to end a run, or change its
pictures.
"""

import contextlib
import functools
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

# In inches: a panel, and the room around it for numbers, a label and a title.
_WIDTH = 4.5
_LEFT, _RIGHT, _BELOW, _ABOVE = 0.68, 0.14, 0.5, 0.36
# Of a line of a legend above all panels, and of the room around them.
_ENTRY, _AROUND = 0.2, 0.12
# In letters of a legend: a panel, and the piece of line before a label.
_LETTERS, _SAMPLE = 64, 7

# Steps between ticks, of which a person can add up a few.
ROUND = (1, 2, 5, 10)

Draw = TypeVar("Draw", bound=Callable[..., Any])


@contextlib.contextmanager
def _without_backend() -> Iterator[None]:
  given = os.environ.pop("MPLBACKEND", None)
  try:
    yield
  finally:
    if given is not None:
      os.environ["MPLBACKEND"] = given
      # For others in this process, as if they had imported it.
      with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = given


with _without_backend():
  import matplotlib
  from matplotlib import colormaps
  from matplotlib.axes import Axes
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    Locator,
    MaxNLocator,
    NullLocator,
  )

__all__ = [
  "ROUND",
  "Axes",
  "Figure",
  "FigureCanvasAgg",
  "FuncFormatter",
  "MaxNLocator",
  "colormaps",
  "factor_ticks",
  "legend_above",
  "over_epochs",
  "panels",
  "plain",
  "png",
]


def plain(draw: Draw) -> Draw:
  """A function that draws, with Matplotlib's own defaults around it."""

  @functools.wraps(draw)
  def draw_plainly(*args: Any, **kwargs: Any) -> Any:
    with matplotlib.rc_context():
      matplotlib.rcdefaults()
      return draw(*args, **kwargs)

  return draw_plainly  # type: ignore[return-value]


@plain
def png(figure: Figure, dpi: int = 150) -> bytes:
  """The figure as a picture."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=dpi)
  return buffer.getvalue()


def panels(
  count: int,
  *,
  height: float = 3.0,
  measured: bool = False,
  legend: Sequence[str] = (),
  **arguments: Any,
) -> tuple[Figure, list[Axes]]:
  """One panel, or several in two columns.

  Args:
    count: of panels.
    height: of a panel, in inches.
    measured: the room for labels is measured, which takes as long as drawing;
      else it is that of numbers.
    legend: labels for which there is to be room above them all, clear of what
      they draw; :func:`legend_above` puts them there.
    **arguments: of ``Figure.subplots``.
  """
  columns = min(count, 2)
  rows = -(-count // columns)
  above = 0.0
  if legend:
    above = _AROUND + _ENTRY * -(-len(legend) // _abreast(legend, columns))
  size = (_WIDTH * columns, height * rows + above)
  figure = Figure(figsize=size, layout="constrained" if measured else None)
  FigureCanvasAgg(figure)
  axes = figure.subplots(rows, columns, squeeze=False, **arguments)
  if not measured:
    figure.subplots_adjust(
      left=_LEFT / size[0],
      right=1 - _RIGHT / size[0],
      bottom=_BELOW / size[1],
      top=1 - (_ABOVE + above) / size[1],
      wspace=(_LEFT + _RIGHT) / (_WIDTH - _LEFT - _RIGHT),
      hspace=(_BELOW + _ABOVE) / (height - _BELOW - _ABOVE),
    )
  shown = list(axes.ravel())[:count]
  for ax in axes.ravel()[count:]:
    ax.axis("off")
  for ax in shown:
    ax.grid(alpha=0.3)
  return figure, shown


def legend_above(figure: Figure, ax: Axes, columns: int) -> None:
  """The legend of a panel, for all of them, where :func:`panels` left room.

  Args:
    figure: of the panels.
    ax: the one whose lines are told.
    columns: of panels.
  """
  lines, labels = ax.get_legend_handles_labels()
  figure.legend(
    *(lines, labels),
    loc="upper center",
    ncols=_abreast(labels, columns),
    fontsize=9,
    frameon=False,
    borderaxespad=0.2,
  )


def _abreast(labels: Sequence[str], columns: int) -> int:
  """Columns of a legend: as many as there is room for.

  A column is filled before the next, and is as wide as its longest label.
  """
  most = len(labels)
  for lines in range(1, most + 1):
    filled = [labels[i : i + lines] for i in range(0, most, lines)]
    wide = sum(max(map(len, column)) + _SAMPLE for column in filled)
    if wide <= _LETTERS * columns:
      return len(filled)
  return 1


def factor_ticks(ax: Axes, values: Sequence[float], letters: int) -> None:
  """Ticks of a logarithmic horizontal axis whose labels do not overprint.

  Args:
    ax: of a logarithmic scale.
    values: what is shown, above 0.
    letters: of labels that there is room for.
  """
  low, high = min(values) * (1 - 1e-9), max(values) * (1 + 1e-9)
  first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
  locator: Locator = MaxNLocator(4, steps=ROUND)
  for factors, every in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 4)):
    ticks = [
      factor * 10.0**power
      for power in range(first, last + 1)
      for factor in factors
      if power % every == 0 and low <= factor * 10.0**power <= high
    ]
    if len(ticks) >= 2 and sum(len(f"{t:g}") + 2 for t in ticks) <= letters:
      locator = FixedLocator(ticks)
      break
  ax.xaxis.set_major_locator(locator)
  ax.xaxis.set_minor_locator(NullLocator())
  ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def over_epochs(ax: Axes) -> None:
  """Labels the axis of epochs, which are whole."""
  ax.set_xlabel("Epoch", fontsize=11)
  ax.xaxis.set_major_locator(MaxNLocator(integer=True))
