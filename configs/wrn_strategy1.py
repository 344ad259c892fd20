"""The paper's Strategy 1: compress by 1.8 %, reset when accuracy falls.

Claim:    one network trained across dense and sparse budgets generalises better
          than a dense one, and stays accurate at low budgets.
Command:  python -m sparse_regimes.main --config=configs/wrn_strategy1.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: test accuracy 0.8797, dense baseline 0.869 (Wang, arXiv 2603.03131,
          one run each). Not yet run at this size here.
Source:   the released program's values, seed included.
"""

import wrn_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs under the released controller."""
  config = wrn_dense.get_config()
  config.controller = ConfigDict({"name": "strategy1"})
  return config
