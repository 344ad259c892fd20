"""Drawings that fit any width, whose places are shares of it.

Letters and strokes keep their size while a drawing grows and shrinks, so it is
legible on a phone and on a desk. What is here says where everything lies, in
percent; ``drawings.html`` draws it, in the colours of the page's two schemes.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sparse_regimes.reports.pictures import MaxNLocator

# As many as the page has colours, dashes and markers.
NUM_STYLES = 8
_RATIOS = (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
# As many times as wide as most, an interval would leave no room for the others.
_WIDEST = 6.0


class Interval(NamedTuple):
  """A row of a forest.

  Attributes:
    name: of the arm.
    mean: of its difference.
    low: of the interval; NaN for one pair.
    high: of it.
    text: the numbers as they are written.
  """

  name: str
  mean: float
  low: float
  high: float
  text: str


class Line(NamedTuple):
  """A line with a band.

  Attributes:
    name: in the legend.
    x: keep ratios above 0, ascending.
    y: at each; NaN is a gap.
    low: of the band.
    high: of it.
  """

  name: str
  x: Sequence[float]
  y: Sequence[float]
  low: Sequence[float]
  high: Sequence[float]


class Forest(NamedTuple):
  """Points with bars, a row an arm, and a line at 0: a block of a page.

  Attributes:
    rows: of each its name, its text and, in percent of the width, where point
      and ends lie; ``cut`` are the ends that lie outside.
    ticks: place and text of each.
    zero: where 0 lies.
    better: where the better half begins, and how wide it is.
    is_left: whether it is the left one.
    title: what they are differences of.
    caption: below.
  """

  rows: Sequence[dict[str, Any]]
  ticks: Sequence[tuple[float, str]]
  zero: float
  better: tuple[float, float]
  is_left: bool
  title: str
  caption: str
  kind: str = "forest"


class OverRatios(NamedTuple):
  """Lines with bands over keep ratio: a block of a page.

  Attributes:
    lines: of each its name, style, marker, points in percent and SVG paths of
      curve and band in thousandths.
    levels: place from above and text of each.
    ratios: place from the left and text of each.
    chance: place from above; None without.
    label: of the upward axis.
    caption: below.
  """

  lines: Sequence[dict[str, Any]]
  levels: Sequence[tuple[float, str]]
  ratios: Sequence[tuple[float, str]]
  chance: float | None
  label: str
  caption: str
  kind: str = "over_ratios"


def forest(
  intervals: Sequence[Interval],
  *,
  title: str,
  less_is_better: bool,
  caption: str,
) -> Forest:
  """Lays out differences to a baseline.

  Args:
    intervals: from top to bottom, at least one.
    title: what they are differences of.
    less_is_better: whether the better half is the left one.
    caption: below.

  Example:
    >>> row = Interval("b", 1.0, 0.0, 2.0, "+1 [0, 2]")
    >>> laid = forest([row], title="", less_is_better=True, caption="")
    >>> [round(laid.rows[0][end]) for end in ("low", "mean", "high")]
    [4, 50, 96]
  """
  widths = [i.high - i.low for i in intervals if math.isfinite(i.low)]
  reach = _WIDEST / 2 * statistics.median(widths) if widths else 0.0
  ends = [0.0]
  for interval in intervals:
    low, middle, high = interval.low, interval.mean, interval.high
    if math.isfinite(low):
      ends += [max(low, middle - reach), min(high, middle + reach)]
    ends.append(middle)
  low, high = min(ends), max(ends)
  low, high = _padded(low, high, 0.04)

  def place(value: float) -> float:
    return 100 * (value - low) / (high - low)

  rows = []
  for interval in intervals:
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    a = interval.low if known else interval.mean
    b = interval.high if known else interval.mean
    rows.append(
      {
        "name": interval.name,
        "text": interval.text,
        "mean": place(interval.mean),
        "low": max(place(a), 0.0),
        "high": min(place(b), 100.0),
        "is_cut": (place(a) < 0, place(b) > 100),
      }
    )
  zero = place(0.0)
  return Forest(
    rows=rows,
    ticks=[(place(tick), text) for tick, text in _ticks(low, high, 4)],
    zero=zero,
    better=(0.0, zero) if less_is_better else (zero, 100 - zero),
    is_left=less_is_better,
    title=title,
    caption=caption,
  )


def over_ratios(
  lines: Sequence[Line],
  *,
  label: str,
  chance: float | None = None,
  caption: str,
) -> OverRatios:
  """Lays out scores over keep ratio, on a logarithmic axis.

  Args:
    lines: with at least one point each.
    label: of the upward axis.
    chance: where who guesses would be.
    caption: below.
  """
  values = [v for line in lines for v in (*line.low, *line.high, *line.y)]
  values = [v for v in values if math.isfinite(v)] or [0.0]
  if chance is not None:
    values.append(chance)
  low, high = _padded(min(values), max(values), 0.05)
  left = math.log(min(line.x[0] for line in lines))
  width = math.log(max(line.x[-1] for line in lines)) - left

  def across(ratio: float) -> float:
    return 100 * (math.log(ratio) - left) / width if width else 50.0

  def down(value: float) -> float:
    return 100 * (high - value) / (high - low)

  ratios = [(across(ratio), f"{ratio:g}") for ratio in _RATIOS]
  return OverRatios(
    lines=[
      {
        "name": line.name,
        "style": i % NUM_STYLES,
        "marker": marker_of(i),
        "points": [
          (across(x), down(y))
          for x, y in zip(line.x, line.y, strict=True)
          if math.isfinite(y)
        ],
        "curve": _path(line.x, line.y, across, down),
        "band": _area(line, across, down),
      }
      for i, line in enumerate(lines)
    ],
    levels=[(down(tick), text) for tick, text in _ticks(low, high, 6)],
    ratios=[(x, text) for x, text in ratios if -1e-6 <= x <= 100 + 1e-6],
    chance=None if chance is None else down(chance),
    label=label,
    caption=caption,
  )


def marker_of(i: int) -> int:
  """The marker of line ``i``; where colours begin again, it is another.

  Example:
    >>> [marker_of(i) for i in (0, 7, 8, 16)]
    [0, 7, 1, 2]
  """
  return (i + i // NUM_STYLES) % NUM_STYLES


def _path(
  x: Sequence[float],
  y: Sequence[float],
  across: Callable[[float], float],
  down: Callable[[float], float],
) -> str:
  """Straight lines, in thousandths of width and height."""
  path, pen = [], "M"
  for ratio, value in zip(x, y, strict=True):
    if math.isfinite(value):
      path.append(f"{pen}{10 * across(ratio):.1f} {10 * down(value):.1f}")
    pen = "L" if math.isfinite(value) else "M"
  return "".join(path)


def _area(
  line: Line,
  across: Callable[[float], float],
  down: Callable[[float], float],
) -> str:
  """Between low and high, there and back; nothing where they are the same."""
  bounds = [
    (x, low, high)
    for x, low, high in zip(line.x, line.low, line.high, strict=True)
    if math.isfinite(low) and math.isfinite(high)
  ]
  if all(low == high for _, low, high in bounds):
    return ""
  x, low, high = zip(*bounds, strict=True)
  there = _path(x, high, across, down)
  back = _path(x[::-1], low[::-1], across, down)
  return f"{there}L{back[1:]}Z"


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
  room = share * (high - low) or abs(high) or 1.0
  return low - room, high + room


def _ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
  """Round values between two, with as many decimals as the finest has."""
  places = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
  ticks = [float(tick) + 0.0 for tick in places if low <= tick <= high]
  decimals = max((len(f"{t:.6g}".partition(".")[2]) for t in ticks), default=0)
  if any("e" in f"{tick:.6g}" for tick in ticks):
    return [(tick, f"{tick:.3g}") for tick in ticks]
  return [(tick, f"{tick:.{decimals}f}") for tick in ticks]
