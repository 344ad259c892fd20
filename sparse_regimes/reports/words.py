"""Numbers, pictures and paths as a page shows them."""

import shlex
from collections.abc import Sequence

from etils import epath

from sparse_regimes.reports.page import Pictures
from sparse_regimes.reports.pictures import Figure, png

_DPI = 110


def pictures(drawn: Sequence[Figure], caption: str) -> Pictures:
  """Figures side by side above a line."""
  return Pictures([png(figure, _DPI) for figure in drawn], caption)


def percent(value: float | None) -> str:
  """A fraction in per cent."""
  return "unknown" if value is None else f"{100 * value:.1f} %"


def share(value: float | None) -> str:
  """A fraction."""
  return "unknown" if value is None else f"{value:.4f}"


def number(value: float | None) -> str:
  """Four digits, or nothing."""
  return "" if value is None else f"{value:.4g}"


def difference(a: float | None, b: float | None) -> float | None:
  """None if either is not known."""
  return None if a is None or b is None else a - b


def argument(workdir: epath.Path) -> str:
  """``--workdir`` as a shell reads it."""
  return shlex.quote(f"--workdir={workdir}")
