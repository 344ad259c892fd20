"""A character language model under Strategy 1.

Claim:    the regimes of the first paper run on text: the budget of a token
          falls until the loss rises, and is reset.
Command:  python -m sparse_regimes.main --config=configs/lm_strategy1.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: 2.097 nats when dense (one seed); docs/language.md has
          other budgets.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, Strategy 1 on the loss."""
  config = lm_dense.get_config()
  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  # In nats, of which less is better.
  config.controller.signal = "loss"
  config.controller.drop_tol = 0.1
  config.controller.ema_beta = 0.9
  config.controller.tighten_pct = 0.1
  config.controller.decide_every = 20
  return config
