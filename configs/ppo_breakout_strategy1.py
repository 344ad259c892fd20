"""PPO on MinAtar's Breakout under Strategy 1, which hears the return.

Claim:    budgets fall while a network learns to play.
Command:  sparse-regimes train --config=configs/ppo_breakout_strategy1.py
Cost:     9 minutes on a CPU core of its own.
Expected: a return of 48.0 after 1.97 million steps (one seed); two resets.
"""

import ppo_breakout_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """As ppo_breakout_dense, with a budget on every hidden layer."""
  config = ppo_breakout_dense.get_config()
  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  config.controller.signal = "return"
  config.controller.drop_tol = 1.0
  config.controller.ema_beta = 0.9
  config.controller.tighten_pct = 0.1
  config.controller.decide_every = 5
  return config
