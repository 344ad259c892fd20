"""PPO on CartPole under Strategy 1, which hears the return.

Claim:    the regimes of the first paper run on reinforcement learning: the
          budget falls until the return does, and is reset.
Command:  sparse-regimes train --config=configs/ppo_cartpole_strategy1.py
Cost:     a minute on two CPU cores.
Expected: a return of 500; six resets, down to a keep ratio of 0.478.
"""

import ppo_cartpole_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """As ppo_cartpole_dense, with a budget on every hidden layer."""
  config = ppo_cartpole_dense.get_config()
  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  config.controller.signal = "return"
  # Of the mean return of the episodes that ended in a rollout.
  config.controller.drop_tol = 40.0
  config.controller.ema_beta = 0.9
  config.controller.tighten_pct = 0.1
  config.controller.decide_every = 10
  return config
