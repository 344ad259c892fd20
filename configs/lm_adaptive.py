"""A character language model, sparser for as long as its loss bears it.

Claim:    the budget falls by equal steps while the loss is near its best, and
          falls back by one when it is not.
Command:  python -m sparse_regimes.main --config=configs/lm_adaptive.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: not measured; lm_dense and lm_strategy1 are what to compare it with.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, steps of 0.05 by the loss."""
  config = lm_dense.get_config()
  config.controller = ConfigDict()
  config.controller.name = "adaptive"
  # In nats.
  config.controller.drop_tol = 0.1
  config.controller.tighten_step = 0.05
  config.controller.relax_step = 0.05
  config.controller.patience = 2
  config.controller.decide_every = 20
  return config
