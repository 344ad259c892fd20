"""A regime study on a laptop: random budgets on WRN-10-1, 4,000 images.

Claim:    many budgets, but no order and no feedback.
Command:  python -m sparse_regimes.main --config=configs/cpu_random.py
Cost:     5 to 9 minutes on a CPU core of its own.
Expected: 0.494 dense test accuracy (mean of 5 seeds; dense arm 0.525).
"""

import cpu_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4,000 images of CIFAR-10, 20 epochs, a keep ratio drawn at every step."""
  config = cpu_dense.get_config()
  config.controller = ConfigDict(
    {"decide_every": 1, "keep_min": 0.1, "name": "random_ratio"}
  )
  return config
