"""A regime study on a laptop: Strategy 1 on WRN-10-1, 4,000 images.

Claim:    the paper's controller with its released values, but a faster clock:
          a decision every 10 batches, 5 % each, for two or three cycles.
Command:  python -m sparse_regimes.main --config=configs/cpu_strategy1.py
Cost:     5 to 9 minutes on a CPU core of its own.
Expected: 0.507 dense test accuracy (mean of 5 seeds; dense arm 0.525).
"""

import cpu_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4,000 images of CIFAR-10, 20 epochs, Strategy 1."""
  config = cpu_dense.get_config()
  config.controller = ConfigDict(
    {"decide_every": 10, "name": "strategy1", "tighten_pct": 0.05}
  )
  return config
