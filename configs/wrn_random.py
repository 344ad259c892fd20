"""Budgets without order: WRN-28-4 with one drawn at every step.

Claim:    a control for the adaptive arms: many budgets, but no cycle.
Command:  python -m sparse_regimes.main --config=configs/wrn_random.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: not in the paper; not yet run at this size here.
"""

import wrn_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs, keep ratios log-uniform from 0.1 to 1."""
  config = wrn_dense.get_config()
  config.controller = ConfigDict(
    {"decide_every": 1, "keep_min": 0.1, "name": "random_ratio"}
  )
  return config
