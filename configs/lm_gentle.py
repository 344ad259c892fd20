"""A character language model under Strategy 1 in small steps.

Claim:    in steps of 0.03 the budget hovers where Strategy 1 is reset.
Command:  python -m sparse_regimes.main --config=configs/lm_gentle.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: not measured; lm_dense and lm_strategy1 are what to compare it with.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, the gentle controller on the loss."""
  config = lm_dense.get_config()
  config.controller = ConfigDict()
  config.controller.name = "gentle"
  # In nats, of which less is better.
  config.controller.signal = "loss"
  config.controller.drop_tol = 0.1
  config.controller.tighten_pct = 0.1
  config.controller.decide_every = 20
  return config
