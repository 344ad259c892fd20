"""A fixed budget: WRN-28-4 that always keeps a fifth of its activations.

Claim:    the control for the adaptive arms: sparsity without any cycle.
Command:  python -m sparse_regimes.main --config=configs/wrn_fixed.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: not in the paper; not yet run at this size here.
"""

import wrn_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs, keep ratio 0.2."""
  config = wrn_dense.get_config()
  config.controller.keep_ratio = 0.2
  return config
