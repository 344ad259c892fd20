"""The budget's moves over a run, and the cycles between its resets."""

import dataclasses
from typing import NamedTuple


class Cycle(NamedTuple):
  """From a reset, or the start, to the next.

  Attributes:
    start: first step, counted from 1.
    end: last step.
    lowest: keep ratio.
    compressions: within it.
  """

  start: int
  end: int
  lowest: float
  compressions: int


@dataclasses.dataclass
class Budget:
  """Every keep ratio that was in force, in order.

  Attributes:
    steps: the first step, counted from 1, at each.
    keep_ratios: in ``[0, 1]``; each differs from the one before.

  Example:
    >>> from sparse_regimes.runs.cycles import Budget
    >>> budget = Budget()
    >>> for step, keep_ratio in enumerate((1.0, 0.5, 0.5, 0.2, 1.0, 0.9), 1):
    ...   budget.see(step, keep_ratio)
    >>> budget.compressions, budget.resets, budget.lowest
    (3, 1, 0.2)
    >>> for cycle in budget.cycles(last_step=6):
    ...   print(cycle)
    Cycle(start=1, end=4, lowest=0.2, compressions=2)
    Cycle(start=5, end=6, lowest=0.9, compressions=1)
  """

  steps: list[int] = dataclasses.field(default_factory=list)
  keep_ratios: list[float] = dataclasses.field(default_factory=list)

  def see(self, step: int, keep_ratio: float) -> None:
    """Notes the keep ratio in force at a step, if it is a new one."""
    if self.last != keep_ratio:
      self.steps.append(step)
      self.keep_ratios.append(keep_ratio)

  @property
  def last(self) -> float | None:
    """In force now; None before the first step."""
    return self.keep_ratios[-1] if self.keep_ratios else None

  @property
  def lowest(self) -> float:
    """So far; 1 before the first step."""
    return min(self.keep_ratios, default=1.0)

  @property
  def compressions(self) -> int:
    """How often it fell."""
    return len(self.keep_ratios) - 1 - self.resets if self.keep_ratios else 0

  @property
  def resets(self) -> int:
    """How often it rose."""
    return len(self._rises())

  def cycles(self, last_step: int) -> list[Cycle]:
    """What lies between resets.

    Args:
      last_step: of the run so far.
    """
    starts = [0, *self._rises()] if self.steps else []
    # What the last step decided acts on none.
    starts = [i for i in starts if self.steps[i] <= last_step]
    ends = [*starts[1:], sum(step <= last_step for step in self.steps)]
    return [
      Cycle(
        start=self.steps[a],
        end=self.steps[b] - 1 if b < len(self.steps) else last_step,
        lowest=min(self.keep_ratios[a:b]),
        compressions=b - a - 1,
      )
      for a, b in zip(starts, ends, strict=True)
    ]

  def _rises(self) -> list[int]:
    ratios = self.keep_ratios
    return [i for i in range(1, len(ratios)) if ratios[i] > ratios[i - 1]]
