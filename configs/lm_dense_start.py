"""A character language model under Strategy 1, after a dense start.

Claim:    as lm_strategy1, but the mask waits until activations have settled.
Command:  python -m sparse_regimes.main --config=configs/lm_dense_start.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: not measured; lm_dense and lm_strategy1 are what to compare it with.
"""

import lm_strategy1
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """That of lm_strategy1, the first 500 steps dense."""
  config = lm_strategy1.get_config()
  config.budget = ConfigDict({"dense_start": 500})
  return config
