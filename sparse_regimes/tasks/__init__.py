"""What a run can learn. A new task is a folder here and a line below."""

from sparse_regimes.tasks.base import Task, gather, length
from sparse_regimes.tasks.classification import Classification

TASKS = {"classification": Classification}

__all__ = ["TASKS", "Classification", "Task", "gather", "length"]
