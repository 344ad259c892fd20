"""A regime study on a laptop: Strategy 1's budgets without their order.

Claim:    as cpu_random, but drawn from the distribution of the budgets that the
          steps of cpu_strategy1 had (five seeds): what feedback and order add.
Command:  python -m sparse_regimes.main --config=configs/cpu_matched.py
Cost:     5 to 9 minutes on a CPU core of its own.
Expected: 0.529 dense test accuracy (mean of 5 seeds; dense arm 0.525).
"""

import cpu_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4,000 images of CIFAR-10, 20 epochs, a keep ratio drawn at every step."""
  config = cpu_dense.get_config()
  # Of strategy1_budgets.csv in experiments/results/cpu_scale, every 5 %.
  config.controller = ConfigDict(
    {
      "decide_every": 1,
      "keep_min": 0.1,
      "name": "random_ratio",
      "quantiles": (
        0.158,
        0.291,
        0.358,
        0.437,
        0.513,
        0.569,
        0.63,
        0.698,
        0.758,
        0.815,
        0.857,
        0.902,
        0.95,
        1.0,
        1.0,
        1.0,
        1.0,
        1.0,
        1.0,
        1.0,
        1.0,
      ),
    }
  )
  return config
