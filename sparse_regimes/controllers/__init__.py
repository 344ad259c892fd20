"""How large the budget is: controllers as pairs of pure functions."""

from sparse_regimes.controllers.base import Controller
from sparse_regimes.controllers.constant import constant
from sparse_regimes.controllers.cosine import cosine
from sparse_regimes.controllers.random_ratio import random_ratio
from sparse_regimes.controllers.strategy1 import strategy1
from sparse_regimes.controllers.strategy2 import strategy2

__all__ = [
  "Controller",
  "constant",
  "cosine",
  "random_ratio",
  "strategy1",
  "strategy2",
]
