"""``trace.json``: what is known of a run besides its log."""

import dataclasses
import json
from typing import Any

from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.files import write
from sparse_regimes.masks.statistics import Arithmetic
from sparse_regimes.runs.cycles import Budget
from sparse_regimes.runs.journal import MAX_BYTES, Journal, checksum_of

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
    chosen_by: the number in a record that the best epoch has the best of.
  """

  steps: int
  multiply_adds: int
  site_multiply_adds: dict[str, int]
  budget: Budget
  collapses: list[list[int | None]]
  epochs: list[dict[str, Any]]
  chosen_by: str = "test_dense_accuracy"

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
      chosen_by=journal.chosen_by,
    )

  @property
  def arithmetic(self) -> Arithmetic:
    """Multiply-adds, all and by site."""
    return self.multiply_adds, self.site_multiply_adds

  def write(self, workdir: epath.Path) -> None:
    """Writes the file anew, at once."""
    content = dataclasses.asdict(self)
    content["checksum"] = checksum_of(content)
    write(workdir / TRACE_FILE, json.dumps(content, allow_nan=False) + "\n")


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
  except (ValueError, TypeError, RecursionError) as error:
    raise InputError(f"{path} must be a run's trace: {error}") from error


def _checked(content: Any) -> Trace:
  names = {field.name for field in dataclasses.fields(Trace)}
  # Of runs before there was another choice.
  optional = {"checksum", "chosen_by"}
  if not isinstance(content, dict) or set(content) | optional != (
    names | optional
  ):
    raise ValueError(f"it must have {', '.join(sorted(names))}")
  # Of runs before there was one, nothing says what was written.
  has_checksum, checksum = "checksum" in content, content.pop("checksum", 0)
  if has_checksum and checksum != checksum_of(content):
    raise ValueError("its checksum does not match its content")
  trace = Trace(**content | {"budget": Budget(**content["budget"])})
  if not trace.budget.steps or not trace.epochs:
    raise ValueError("it must have a keep ratio and an epoch")
  return trace
