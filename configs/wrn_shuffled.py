"""Strategy 1 without its feedback: it hears of accuracy at the wrong time.

Claim:    a control for the adaptive arm: the same rule and the same accuracies,
          drawn from the latest epoch at random, so that resets do not answer
          what happens now.
Command:  python -m sparse_regimes.main --config=configs/wrn_shuffled.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: not in the paper; not yet run at this size here.
"""

import wrn_strategy1
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs under a controller that is misled."""
  config = wrn_strategy1.get_config()
  # The accuracies of an epoch.
  config.signal = ConfigDict({"shuffle_window": 390})
  return config
