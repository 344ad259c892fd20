"""How large the budget is: controllers as pairs of pure functions."""

from sparse_regimes.controllers.base import Controller, guarded, innermost
from sparse_regimes.controllers.constant import constant
from sparse_regimes.controllers.cosine import cosine
from sparse_regimes.controllers.random_ratio import random_ratio
from sparse_regimes.controllers.shuffled import shuffled
from sparse_regimes.controllers.strategy1 import strategy1
from sparse_regimes.controllers.strategy2 import strategy2
from sparse_regimes.controllers.watched import watched

__all__ = [
  "Controller",
  "constant",
  "cosine",
  "guarded",
  "innermost",
  "random_ratio",
  "shuffled",
  "strategy1",
  "strategy2",
  "watched",
]
