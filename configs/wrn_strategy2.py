"""Strategy 2, our reading: compress to the floor or to lasting trouble, reset.

Claim:    as Strategy 1, with another rule for the reset. The paper's own
          definition is not public; this rule is ours.
Command:  python -m sparse_regimes.main --config=configs/wrn_strategy2.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: the paper reports test accuracy 0.8802 for its Strategy 2 (one run).
          Not yet run at this size here.
"""

import wrn_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs under our Strategy 2."""
  config = wrn_dense.get_config()
  config.controller = ConfigDict({"name": "strategy2"})
  return config
