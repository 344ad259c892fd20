"""A language model that overfits, so that regularisers have work to do.

Claim:    a setting in which tuned dropout is known to help, so that a regime
          that helps would show; experiments/results/regimes/PROTOCOL.md.
Command:  python -m sparse_regimes.main --config=configs/study_text.py
Cost:     8 to 12 minutes on a CPU core of its own.
Expected: docs/results.md.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The network of lm_dense, 4,000 steps on a ninth of the text."""
  config = lm_dense.get_config()
  config.data.update({"name": "shakespeare:120000", "num_train": 3_000})
  config.train.epochs = 16
  config.checkpoint = ConfigDict({"keep": 1})
  return config
