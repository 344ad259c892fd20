"""A character language model that becomes sparse by the clock.

Claim:    the cubic schedule of gradual pruning, of activations: one way down,
          without feedback.
Command:  python -m sparse_regimes.main --config=configs/lm_polynomial.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: not measured; lm_dense and lm_strategy1 are what to compare it with.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, from 1 to a quarter over 1,500 steps."""
  config = lm_dense.get_config()
  config.controller = ConfigDict()
  config.controller.name = "polynomial"
  config.controller.keep_final = 0.25
  config.controller.end = 1500
  config.controller.decide_every = 10
  return config
