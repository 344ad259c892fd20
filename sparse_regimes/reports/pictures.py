"""Matplotlib without the settings of whoever runs us.

A notebook's ``MPLBACKEND`` may name what is not installed here, and a user's
``matplotlibrc`` may ask for LaTeX; neither is to end a run, or change its
pictures.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

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
  "plain",
]


def plain(draw: Draw) -> Draw:
  """A function that draws, with Matplotlib's own defaults around it."""

  @functools.wraps(draw)
  def draw_plainly(*args: Any, **kwargs: Any) -> Any:
    with matplotlib.rc_context():
      matplotlib.rcdefaults()
      return draw(*args, **kwargs)

  return draw_plainly  # type: ignore[return-value]
