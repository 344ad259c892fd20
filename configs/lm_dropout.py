"""A character language model with dropout: the positive control.

Claim:    a regulariser that is known to work, where there is something to
          regularise; in 2,000 steps there is not.
Command:  python -m sparse_regimes.main --config=configs/lm_dropout.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: 2.032 nats when dense (one seed); docs/language.md has
          other budgets.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, dropout of 0.2."""
  config = lm_dense.get_config()
  config.model.dropout = 0.2
  return config
