"""Matplotlib without the settings of whoever runs us.

A notebook's ``MPLBACKEND`` may name what is not installed here, and a user's
``matplotlibrc`` may ask for LaTeX; neither is to end a run, or change its
pictures.
"""

import contextlib
import functools
import io
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

# In inches: a panel, and the room around it for numbers, a label and a title.
_WIDTH = 4.5
_LEFT, _RIGHT, _BELOW, _ABOVE = 0.58, 0.14, 0.5, 0.36

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
  from matplotlib.ticker import FuncFormatter, MaxNLocator

__all__ = [
  "Axes",
  "Figure",
  "FigureCanvasAgg",
  "FuncFormatter",
  "MaxNLocator",
  "colormaps",
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
  count: int, *, height: float = 3.0, measured: bool = False, **arguments: Any
) -> tuple[Figure, list[Axes]]:
  """One panel, or several in two columns.

  Args:
    count: of panels.
    height: of a panel, in inches.
    measured: the room for labels is measured, which takes as long as drawing;
      else it is that of numbers.
    **arguments: of ``Figure.subplots``.
  """
  columns = min(count, 2)
  rows = -(-count // columns)
  size = (_WIDTH * columns, height * rows)
  figure = Figure(figsize=size, layout="constrained" if measured else None)
  FigureCanvasAgg(figure)
  axes = figure.subplots(rows, columns, squeeze=False, **arguments)
  if not measured:
    figure.subplots_adjust(
      left=_LEFT / size[0],
      right=1 - _RIGHT / size[0],
      bottom=_BELOW / size[1],
      top=1 - _ABOVE / size[1],
      wspace=(_LEFT + _RIGHT) / (_WIDTH - _LEFT - _RIGHT),
      hspace=(_BELOW + _ABOVE) / (height - _BELOW - _ABOVE),
    )
  shown = list(axes.ravel())[:count]
  for ax in axes.ravel()[count:]:
    ax.axis("off")
  for ax in shown:
    ax.grid(alpha=0.3)
  return figure, shown


def over_epochs(ax: Axes) -> None:
  """Labels the axis of epochs, which are whole."""
  ax.set_xlabel("Epoch", fontsize=11)
  ax.xaxis.set_major_locator(MaxNLocator(integer=True))
