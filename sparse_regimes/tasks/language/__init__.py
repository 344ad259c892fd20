"""Text: what comes next, and text that goes on."""

from sparse_regimes.tasks.language.task import Language

__all__ = ["Language"]
