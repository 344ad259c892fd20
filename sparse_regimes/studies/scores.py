"""What the runs of a study are judged by: an accuracy, a loss or a return."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sparse_regimes.runs.makers import maker

_PACE = "_per_second"


class Score(NamedTuple):
  """What tells good runs of a task from bad ones.

  Attributes:
    name: ``accuracy``, ``loss`` (less is better), ``return``, or the metric of
      somebody's task.
    unit: what the pace is told in, as a summary has it: ``images``,
      ``tokens``, ``environment_steps``.
  """

  name: str = "accuracy"
  unit: str = "images"

  @property
  def less_is_better(self) -> bool:
    """Whether the best is the smallest."""
    return self.name == "loss"

  @property
  def label(self) -> str:
    """For an axis: with its unit where it has one."""
    return "loss (nats)" if self.name == "loss" else self.name

  def gap(self, train: float, test: float) -> float:
    """By how much it is better on the examples that were trained on."""
    return test - train if self.less_is_better else train - test


def score_of(summary: Mapping[str, Any]) -> Score:
  """The score of the run whose summary this is.

  Example:
    >>> score_of({"chosen_by": "loss", "images_per_second": 1.0,
    ...           "tokens_per_second": 64.0})
    Score(name='loss', unit='tokens')
  """
  paces = [name for name in summary if name.endswith(_PACE)]
  unit = paces[-1].removesuffix(_PACE) if paces else "images"
  return Score(summary.get("chosen_by", "accuracy"), unit)


def fields_of(score: Score) -> tuple[str, ...]:
  """Of a summary, in this order: dense, at the last budget, best, train.

  Example:
    >>> fields_of(Score("loss"))[0]
    'final_test_dense_loss'
  """
  return (
    f"final_test_dense_{score.name}",
    f"final_test_sparse_{score.name}",
    f"best_test_dense_{score.name}",
    f"final_train_dense_{score.name}",
  )


def choice_of(config: Any) -> str:
  """The name of the score by which a config's task chooses its best epoch."""
  return getattr(maker("task", config.task.name), "choice", "accuracy")
