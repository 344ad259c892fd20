"""``trace.json``: what is known of a run besides its log."""

import dataclasses
import json
from typing import Any

from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.files import write
from sparse_regimes.masks.statistics import Arithmetic
from sparse_regimes.runs.cycles import Budget
from sparse_regimes.runs.journal import (
  MAX_BYTES,
  Journal,
  are_collapses,
  are_details,
  is_count,
)

TRACE_FILE = "trace.json"


@dataclasses.dataclass
class Trace:
  """Every move of the budget, every collapse, and an epoch's details.

  Attributes:
    steps: made so far.
    multiply_adds: of a forward pass, for each image.
    site_multiply_adds: of the layers that read each site, by its name, from
      input to output.
    budget: every keep ratio.
    collapses: first and last step of each; the last is None while it goes on.
    epochs: evaluation of some training images and nonzero fraction at each
      site, one a finished epoch.
  """

  steps: int
  multiply_adds: int
  site_multiply_adds: dict[str, int]
  budget: Budget
  collapses: list[list[int | None]]
  epochs: list[dict[str, Any]]

  @classmethod
  def of(cls, journal: Journal, arithmetic: Arithmetic) -> "Trace":
    """The trace of a run so far."""
    total, by_site = arithmetic
    return cls(
      steps=journal.step,
      multiply_adds=total,
      site_multiply_adds=by_site,
      budget=journal.budget,
      collapses=journal.collapses,
      epochs=journal.details,
    )

  @property
  def arithmetic(self) -> Arithmetic:
    """Multiply-adds, all and by site."""
    return self.multiply_adds, self.site_multiply_adds

  def write(self, workdir: epath.Path) -> None:
    """Writes the file anew, at once."""
    content = json.dumps(dataclasses.asdict(self), allow_nan=False)
    write(workdir / TRACE_FILE, content + "\n")


def read_trace(workdir: epath.Path) -> Trace:
  """Reads the trace of a run, whoever wrote it.

  Raises:
    InputError: naming the file and what is wrong.
  """
  path = workdir / TRACE_FILE
  try:
    if path.stat().length > MAX_BYTES:
      raise InputError(f"{path} must have at most {MAX_BYTES} bytes")
    return _checked(json.loads(path.read_bytes()))
  except OSError as error:
    raise InputError(
      f"{path} could not be read: {error.strerror or error}"
    ) from error
  except (ValueError, RecursionError) as error:
    raise InputError(f"{path} must be a run's trace: {error}") from error


def _checked(content: Any) -> Trace:
  names = {field.name for field in dataclasses.fields(Trace)}
  if not isinstance(content, dict) or set(content) != names:
    raise ValueError(f"it must have {', '.join(sorted(names))}")
  sites = content["site_multiply_adds"]
  if not (
    is_count(content["steps"])
    and is_count(content["multiply_adds"])
    and content["multiply_adds"] > 0
    and isinstance(sites, dict)
    and sites
    and all(is_count(size) for size in sites.values())
    and are_collapses(content["collapses"])
    and are_details(content["epochs"], num_sites=len(sites))
  ):
    raise ValueError("its values are not those of a trace")
  budget = Budget.from_json(content["budget"])
  if not budget.steps or not content["epochs"]:
    raise ValueError("it must have a keep ratio and an epoch")
  return Trace(**content | {"budget": budget})
