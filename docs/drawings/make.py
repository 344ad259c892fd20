"""Draws the pictures of docs/concepts.md: ``python docs/drawings/make.py``.

The numbers in them are made up or computed here; nothing is measured. A test
says when a picture is not what this file draws.
"""

import math
import random
from pathlib import Path

HERE = Path(__file__).parent
INK, SOFT, LINE = "#1f2933", "#7b8794", "#cbd2d9"
BLUE, RED, PALE = "#2563a8", "#c2410c", "#e4e9f0"


class Drawing:
  """An SVG that grows a shape at a time."""

  def __init__(self, width: int, height: int, title: str):
    self.parts = [
      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
      f' width="{width}" height="{height}" role="img"'
      ' font-family="system-ui, sans-serif" font-size="14">',
      f"<title>{title}</title>",
      f'<rect width="{width}" height="{height}" rx="6" fill="white"/>',
    ]

  def text(self, x, y, words, *, fill=INK, anchor="start", weight="normal"):
    """Words whose base line begins at (x, y)."""
    self.parts.append(
      f'<text x="{x:g}" y="{y:g}" fill="{fill}" text-anchor="{anchor}"'
      f' font-weight="{weight}">{words}</text>'
    )

  def box(self, x, y, width, height, *, fill, stroke="none", rx=2):
    """A rectangle with its corner at (x, y)."""
    self.parts.append(
      f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
      f' rx="{rx}" fill="{fill}" stroke="{stroke}"/>'
    )

  def path(self, points, *, stroke=INK, width=2.0, dash=""):
    """A line through the points."""
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    self.parts.append(
      f'<polyline points="{steps}" fill="none" stroke="{stroke}"'
      f' stroke-width="{width:g}" stroke-dasharray="{dash}"'
      ' stroke-linejoin="round"/>'
    )

  def arrow(self, x0, y0, x1, y1, *, stroke=INK):
    """A straight arrow to (x1, y1)."""
    self.path([(x0, y0), (x1, y1)], stroke=stroke, width=1.5)
    angle = math.atan2(y1 - y0, x1 - x0)
    wings = [
      (x1 - 8 * math.cos(angle + turn), y1 - 8 * math.sin(angle + turn))
      for turn in (0.4, -0.4)
    ]
    self.path([wings[0], (x1, y1), wings[1]], stroke=stroke, width=1.5)

  def svg(self) -> str:
    """The whole file."""
    return "\n".join([*self.parts, "</svg>"]) + "\n"


def kept(values: list[float], count: int) -> set[int]:
  """The places of the largest; among equals the first."""
  return set(sorted(range(len(values)), key=lambda i: -values[i])[:count])


def mask() -> str:
  """Twelve activations before and after a mask that keeps a quarter."""
  values = [0.2, 1.4, 0.0, 0.7, 2.1, 0.0, 0.4, 1.1, 0.0, 1.9, 0.3, 0.9]
  survivors = kept(values, 3)
  picture = Drawing(640, 212, "A mask keeps the three largest of twelve values")
  for row, title in enumerate(("activations", "after the mask, r = 0.25")):
    y = 30 + 96 * row
    picture.text(20, y, title, weight="bold")
    for i, value in enumerate(values):
      shown = value if row == 0 or i in survivors else 0.0
      fill = BLUE if i in survivors else PALE
      ink = "white" if i in survivors else INK if shown else SOFT
      picture.box(20 + 50 * i, y + 12, 46, 40, fill=fill)
      picture.text(43 + 50 * i, y + 37, f"{shown:g}", fill=ink, anchor="middle")
  words = "12 x 0.25 = 3 entries survive, as they are; the others are 0."
  picture.text(20, 204, words, fill=SOFT)
  return picture.svg()


def grid(picture, x, y, values, survivors):
  """A row for each position, a column for each channel."""
  for i, row in enumerate(values):
    for j, value in enumerate(row):
      alive = (i, j) in survivors
      shade = 255 - int(70 * value)
      fill = BLUE if alive else f"#{shade:02x}{shade:02x}{shade:02x}"
      picture.box(x + 26 * j, y + 26 * i, 24, 24, fill=fill)


def scope() -> str:
  """The same scores under a budget of the example and of each position."""
  draw = random.Random(4)
  values = [
    [min(1.0, abs(draw.gauss(0, scale))) for _ in range(8)]
    for scale in (0.15, 0.3, 0.6, 0.9)
  ]
  flat = [value for row in values for value in row]
  together = {divmod(i, 8) for i in kept(flat, 8)}
  alone = {(i, j) for i, row in enumerate(values) for j in kept(row, 2)}
  picture = Drawing(640, 204, "Two scopes: what shares a budget competes")
  titles = ("global: one budget for all", "channel: one for each position")
  for x, title, survivors in zip(
    (90, 380), titles, (together, alone), strict=True
  ):
    picture.text(x, 30, title, weight="bold")
    grid(picture, x, 44, values, survivors)
    picture.text(x, 168, "channels", fill=SOFT)
    picture.arrow(x + 62, 163, x + 206, 163, stroke=SOFT)
  for i in range(4):
    picture.text(82, 61 + 26 * i, f"position {i}", fill=SOFT, anchor="end")
  picture.text(
    320,
    194,
    "Either way 8 of 32 survive: r = 0.25.",
    fill=SOFT,
    anchor="middle",
  )
  return picture.svg()


def strategy(steps: int = 60) -> tuple[list[float], list[float]]:
  """Ratios and accuracies of a rule like Strategy 1's on a made-up network."""
  ratio, average, best, cooldown = 1.0, 0.0, 0.0, 0
  ratios, averages = [], []
  for step in range(steps):
    can = 0.5 + 0.35 * (1 - math.exp(-step / 18))
    # This network bears a budget until a tenth of its activations is left.
    accuracy = can * (1 - math.exp(-9 * ratio))
    average = accuracy if step == 0 else 0.6 * average + 0.4 * accuracy
    best = max(best, average)
    ratios.append(ratio)
    averages.append(average)
    if best - average > 0.12:
      ratio, cooldown = 1.0, 3
    elif cooldown:
      cooldown -= 1
    else:
      ratio *= 0.82
  return ratios, averages


def axes(picture, x, y, width, height, low, high):
  """Two axes with a word at either end of the upright one."""
  picture.path([(x, y), (x, y + height), (x + width, y + height)], stroke=SOFT)
  picture.text(x - 6, y + 6, high, fill=SOFT, anchor="end")
  picture.text(x - 6, y + height, low, fill=SOFT, anchor="end")


def curve(values, x, y, width, height):
  """Points of a curve whose values are between 0 and 1."""
  step = width / (len(values) - 1)
  return [(x + step * i, y + height * (1 - v)) for i, v in enumerate(values)]


def controller() -> str:
  """The budget falls until accuracy has fallen too far, and is reset."""
  ratios, averages = strategy()
  picture = Drawing(640, 330, "A controller moves the budget while it trains")
  for y, title, values, ink in (
    (40, "keep ratio", ratios, BLUE),
    (190, "accuracy, averaged", averages, RED),
  ):
    picture.text(50, y - 12, title, weight="bold")
    axes(picture, 50, y, 560, 100, "0", "1")
    picture.path(curve(values, 50, y, 560, 100), stroke=ink)
  step = 560 / (len(ratios) - 1)
  for i in range(1, len(ratios)):
    if ratios[i] > ratios[i - 1]:
      x = 50 + step * i
      picture.path([(x, 40), (x, 290)], stroke=LINE, width=1, dash="4 3")
      picture.text(x, 32, "reset", fill=SOFT, anchor="middle")
  picture.text(610, 312, "decisions", fill=SOFT, anchor="end")
  return picture.svg()


def loop() -> str:
  """Where the controller sits in a training step."""
  picture = Drawing(640, 190, "One training step with a controller")
  boxes = {
    "batch": (20, 70, BLUE),
    "network with masks": (125, 160, BLUE),
    "loss, gradients": (320, 130, BLUE),
    "new parameters": (485, 135, BLUE),
  }
  for words, (x, width, ink) in boxes.items():
    picture.box(x, 28, width, 42, fill="white", stroke=ink, rx=5)
    picture.text(x + width / 2, 54, words, anchor="middle")
  for x0, x1 in ((90, 123), (285, 318), (450, 483)):
    picture.arrow(x0, 49, x1, 49)
  picture.box(215, 125, 190, 42, fill="white", stroke=RED, rx=5)
  picture.text(310, 151, "controller", anchor="middle")
  picture.path([(405, 70), (405, 100), (365, 100)], stroke=RED, width=1.5)
  picture.arrow(365, 100, 365, 123, stroke=RED)
  picture.text(412, 104, "loss, accuracy, ...", fill=RED)
  picture.path([(250, 125), (250, 100), (215, 100)], stroke=RED, width=1.5)
  picture.arrow(215, 100, 215, 72, stroke=RED)
  picture.text(206, 104, "keep ratio of the next step", fill=RED, anchor="end")
  return picture.svg()


def regimes() -> str:
  """Four ways in which a budget may move over training."""
  draw = random.Random(1)
  count = 60
  cases = (
    ("dense", [1.0] * count),
    ("constant", [0.3] * count),
    ("Strategy 1", strategy(count)[0]),
    ("random", [draw.uniform(0.05, 1) for _ in range(count)]),
  )
  picture = Drawing(640, 150, "Four regimes: the keep ratio over training")
  for i, (title, values) in enumerate(cases):
    x = 34 + 152 * i
    picture.text(x, 26, title, weight="bold")
    axes(picture, x, 40, 124, 80, "0", "1")
    points = curve(values, x, 40, 124, 80)
    picture.path(points, stroke=BLUE, width=1 if title == "random" else 2)
  picture.text(614, 142, "steps", fill=SOFT, anchor="end")
  return picture.svg()


def collapse() -> str:
  """Accuracy that does not come back when the budget does."""
  count, at = 60, 28
  ratios = [max(0.06, 0.9**i) for i in range(at)] + [1.0] * (count - at)
  healthy = [0.75 * (1 - math.exp(-i / 9)) for i in range(count)]
  lost = healthy[:at] + [
    0.12 + 0.55 * math.exp(-(i - at) / 1.5) for i in range(at, count)
  ]
  back = [
    value - (0.3 * math.exp(-(i - at) / 5) if i >= at else 0)
    for i, value in enumerate(healthy)
  ]
  picture = Drawing(640, 250, "A network that does not come back after a reset")
  picture.text(50, 28, "keep ratio", weight="bold")
  axes(picture, 50, 40, 560, 60, "0", "1")
  picture.path(curve(ratios, 50, 40, 560, 60), stroke=BLUE)
  picture.text(50, 138, "accuracy", weight="bold")
  axes(picture, 50, 150, 560, 80, "0", "1")
  picture.path(curve(back, 50, 150, 560, 80), stroke=SOFT, dash="5 4")
  picture.path(curve(lost, 50, 150, 560, 80), stroke=RED)
  x = 50 + 560 / (count - 1) * at
  picture.path([(x, 40), (x, 230)], stroke=LINE, width=1, dash="4 3")
  picture.text(x + 8, 94, "reset: all activations are back", fill=SOFT)
  picture.text(606, 164, "a run that recovers", fill=SOFT, anchor="end")
  picture.text(606, 214, "a collapse", fill=RED, anchor="end")
  return picture.svg()


DRAWINGS = {
  f.__name__: f for f in (mask, scope, loop, controller, regimes, collapse)
}

if __name__ == "__main__":
  for name, draw in DRAWINGS.items():
    (HERE / f"{name}.svg").write_text(draw())
