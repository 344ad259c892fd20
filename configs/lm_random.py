"""A character language model at random budgets.

Claim:    many budgets, but no cycle.
Command:  python -m sparse_regimes.main --config=configs/lm_random.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: 1.867 nats when dense (one seed); docs/language.md has
          other budgets.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, keep ratios log-uniform from 0.05 to 1."""
  config = lm_dense.get_config()
  config.controller = ConfigDict(
    {"name": "random_ratio", "keep_min": 0.05, "decide_every": 1}
  )
  return config
