"""A small vision transformer under Strategy 1, for two CPU cores.

Claim:    do the regimes of the first paper change what the second one measures?
Command:  python -m sparse_regimes.main --config=configs/cpu_vit_strategy1.py
Cost:     two and a half to three and a half minutes on one of two cores.
Expected: 0.4052 ± 0.0175 dense after 20 epochs, over three seeds;
          experiments/results/flat_minima/README.md says what else.
Source:   Wang, arXiv 2603.03131, with a decision every 20 batches, 5 % each,
          on a slower average; vit_strategy1 is the full size.
"""

import cpu_vit
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Four blocks of width 64, patches of 8 x 8, 8,000 images, 20 epochs."""
  config = cpu_vit.get_config()
  # With the released 0.5 the noise of single batches of 64 resets the budget
  # before it gets low; with 0.95 it fell to 0.002 without a reset.
  config.controller = ConfigDict(
    {
      "decide_every": 20,
      "ema_beta": 0.8,
      "name": "strategy1",
      "tighten_pct": 0.05,
    }
  )
  return config
