"""A character language model whose layers share Strategy 1's budget.

Claim:    as lm_strategy1, but a layer that is less active leaves the others
          more.
Command:  python -m sparse_regimes.main --config=configs/lm_shared.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: not measured; lm_dense and lm_strategy1 are what to compare it with.
"""

import lm_strategy1
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """That of lm_strategy1, shared anew every 20 steps."""
  config = lm_strategy1.get_config()
  config.budget = ConfigDict({"share_every": 20})
  return config
