"""A regime study on a laptop: Strategy 2 on WRN-10-1, 4,000 images.

Claim:    our reading of the second controller, at the clock of cpu_strategy1.
Command:  python -m sparse_regimes.main --config=configs/cpu_strategy2.py
Cost:     5 to 9 minutes on a CPU core of its own.
Expected: 0.401 dense test accuracy (mean of 5 seeds; dense arm 0.525).
"""

import cpu_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4,000 images of CIFAR-10, 20 epochs, Strategy 2."""
  config = cpu_dense.get_config()
  config.controller = ConfigDict(
    {
      "decide_every": 10,
      "keep_min": 0.1,
      "name": "strategy2",
      "tighten_pct": 0.05,
    }
  )
  return config
