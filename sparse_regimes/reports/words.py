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


def names_of(workdirs: Sequence[epath.Path]) -> list[str]:
  """What tells runs apart: their paths without what all begin and end with.

  Example:
    >>> names_of([epath.Path(f"runs/{arm}/seed0") for arm in ("dense", "top")])
    ['dense', 'top']
    >>> names_of([epath.Path("a/b"), epath.Path("a/c/d"), epath.Path("a")])
    ['a/b', 'a/c/d', 'a']
  """
  paths = [workdir.absolute().parts for workdir in workdirs]
  shortest = min(map(len, paths))
  # A path that ends where others go on keeps its last part.
  first = 0
  while first < shortest - 1 and len({path[first] for path in paths}) == 1:
    first += 1
  last = 0
  while (
    last < shortest - 1 - first
    and len({path[len(path) - 1 - last] for path in paths}) == 1
  ):
    last += 1
  return ["/".join(path[first : len(path) - last]) for path in paths]
