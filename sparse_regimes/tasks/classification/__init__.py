"""Images and their labels."""

from sparse_regimes.tasks.classification.task import Classification

__all__ = ["Classification"]
