"""A cycle without feedback: WRN-28-4 with a cosine budget.

Claim:    a control for the adaptive arms: cycles, but nothing tells when.
Command:  python -m sparse_regimes.main --config=configs/wrn_cosine.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: not in the paper; not yet run at this size here.
"""

import wrn_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs, 38 cosine cycles from dense to a tenth."""
  config = wrn_dense.get_config()
  # A period of 40 decisions.
  config.controller = ConfigDict({"keep_min": 0.1, "name": "cosine"})
  return config
