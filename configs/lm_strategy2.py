"""A character language model under our Strategy 2.

Claim:    as lm_strategy1, with another rule for the reset.
Command:  python -m sparse_regimes.main --config=configs/lm_strategy2.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: 1.882 nats when dense (one seed); docs/language.md has
          other budgets.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, Strategy 2 on the loss."""
  config = lm_dense.get_config()
  config.controller = ConfigDict()
  config.controller.name = "strategy2"
  # In nats, of which less is better.
  config.controller.signal = "loss"
  config.controller.drop_tol = 0.1
  config.controller.ema_beta = 0.9
  config.controller.tighten_pct = 0.1
  config.controller.decide_every = 20
  config.controller.keep_min = 0.05
  return config
