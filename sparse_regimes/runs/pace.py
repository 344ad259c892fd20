"""How long a run will take, said as soon as it can be known."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def format_seconds(seconds: float) -> str:
  """A duration as a person says it.

  Example:
    >>> [format_seconds(s) for s in (7, 200, 3_600, 20_000, 2_000_000)]
    ['7 s', '3 min 20 s', '1 h 0 min', '5 h 33 min', '23.1 days']
  """
  if seconds < 59.5:
    return f"{seconds:.0f} s"
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f"{minutes} min {rest} s"
  if minutes < 48 * 60:
    return f"{minutes // 60} h {minutes % 60} min"
  return f"{seconds / 86400:.1f} days"


def typical_pace(records: Sequence[Mapping[str, Any]]) -> float | None:
  """A run's images a second: the median over epochs; None if none is known.

  Example:
    >>> typical_pace([{"images_per_second": r} for r in (None, 90.0, 100.0)])
    95.0
  """
  rates = [r["images_per_second"] for r in records]
  known = [rate for rate in rates if rate is not None]
  return statistics.median(known) if known else None


@dataclasses.dataclass
class Pace:
  """What a step and an epoch's evaluation cost, as far as measured.

  Attributes:
    batch_size: images a training step.
    num_evaluated: examples an evaluation; an epoch evaluates twice.
    unit: what is counted for people, such as tokens.
    each: how many of them an example has.
    seconds_per_step: measured, of one training step.
    seconds_per_evaluation: of an epoch's two evaluations; None until measured,
      and taken as the forward third of as many training images meanwhile.

  Example:
    >>> pace = Pace(batch_size=100, num_evaluated=300, seconds_per_step=1.0)
    >>> pace.predict(num_steps=10, num_evaluations=1)
    12.0
  """

  batch_size: int
  num_evaluated: int
  unit: str = "images"
  each: int = 1
  seconds_per_step: float = float("nan")
  seconds_per_evaluation: float | None = None

  def predict(self, *, num_steps: int, num_evaluations: int) -> float:
    """Seconds for so many training steps and dual evaluations."""
    evaluation = self.seconds_per_evaluation
    if evaluation is None:
      passes = 2 * self.num_evaluated / self.batch_size
      evaluation = passes * self.seconds_per_step / 3
    return num_steps * self.seconds_per_step + num_evaluations * evaluation

  @property
  def images_per_second(self) -> float:
    """Training examples a second."""
    return self.batch_size / self.seconds_per_step

  @property
  def told(self) -> str:
    """The same for people."""
    return format_rate(self.images_per_second, self.unit, self.each)


def format_rate(examples_per_second: float, unit: str, each: int = 1) -> str:
  """A pace as a person says it.

  Example:
    >>> format_rate(100.0, "images"), format_rate(100.0, "tokens", 64)
    ('100 images/s', '6400 tokens/s')
  """
  return f"{examples_per_second * each:.0f} {unit}/s"
