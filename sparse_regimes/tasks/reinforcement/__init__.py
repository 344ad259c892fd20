"""Reinforcement learning: an actor whose budget follows what it earns."""

from sparse_regimes.tasks.reinforcement.task import Reinforcement

__all__ = ["Reinforcement"]
