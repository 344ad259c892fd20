"""How large the budget is: controllers as pairs of pure functions."""

from sparse_regimes.controllers.adaptive import adaptive
from sparse_regimes.controllers.averaged import averaged
from sparse_regimes.controllers.base import Controller, guarded, innermost
from sparse_regimes.controllers.constant import constant
from sparse_regimes.controllers.cosine import cosine
from sparse_regimes.controllers.dense_start import dense_start
from sparse_regimes.controllers.gentle import gentle
from sparse_regimes.controllers.polynomial import k_decay, polynomial
from sparse_regimes.controllers.random_ratio import random_ratio
from sparse_regimes.controllers.shared import share, shared
from sparse_regimes.controllers.shuffled import shuffled
from sparse_regimes.controllers.ssd_switch import ssd_switch
from sparse_regimes.controllers.strategy1 import strategy1
from sparse_regimes.controllers.strategy2 import strategy2
from sparse_regimes.controllers.watched import watched

__all__ = [
  "Controller",
  "adaptive",
  "averaged",
  "constant",
  "cosine",
  "dense_start",
  "gentle",
  "guarded",
  "innermost",
  "k_decay",
  "polynomial",
  "random_ratio",
  "share",
  "shared",
  "shuffled",
  "ssd_switch",
  "strategy1",
  "strategy2",
  "watched",
]
