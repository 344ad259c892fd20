"""A character language model at one keep ratio.

Claim:    masks without regimes.
Command:  python -m sparse_regimes.main --config=configs/lm_constant.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: 2.100 nats when dense (one seed); docs/language.md has
          other budgets.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, a quarter of the hidden activations."""
  config = lm_dense.get_config()
  config.controller = ConfigDict({"name": "constant", "keep_ratio": 0.25})
  return config
