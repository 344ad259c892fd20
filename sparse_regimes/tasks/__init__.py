"""What a run can learn. A new task is a folder here and a line below."""

from sparse_regimes.tasks.base import Task, gather, length, rate_of
from sparse_regimes.tasks.classification import Classification
from sparse_regimes.tasks.language import Language
from sparse_regimes.tasks.reinforcement import Reinforcement

TASKS = {
  "classification": Classification,
  "language": Language,
  "reinforcement": Reinforcement,
}

__all__ = [
  "TASKS",
  "Classification",
  "Language",
  "Reinforcement",
  "Task",
  "gather",
  "length",
  "rate_of",
]
