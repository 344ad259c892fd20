"""A language model that overfits: where regularisers have work to do.

Claim:    a setting in which tuned dropout is known to help, so that a regime
          that helps would show; experiments/results/regimes/PROTOCOL.md.
Command:  python -m sparse_regimes.main --config=configs/study_text.py
Cost:     a minute on an H100; hours on a CPU.
Expected: docs/results.md.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4 layers of 256 on half of the plays, dense, for 30 epochs."""
  config = lm_dense.get_config()
  config.task.context = 128
  config.data.num_train = 4_000
  config.model.update({"width": 256, "dtype": "bfloat16"})
  config.optimizer.learning_rate = 1e-3
  config.train.update({"epochs": 30, "batch_size": 64})
  config.eval.num_train = 500
  config.checkpoint = ConfigDict({"keep": 1, "every_epochs": 0})
  return config
