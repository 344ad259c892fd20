"""A regime study on a laptop: one budget on WRN-10-1, 4,000 images.

Claim:    masks without regimes. The ratio is chosen among a few on other
          seeds before the arms are compared.
Command:  python -m sparse_regimes.main --config=configs/cpu_constant.py
Cost:     5 to 9 minutes on a CPU core of its own.
Expected: 0.512 dense test accuracy (mean of 5 seeds; dense arm 0.525).
"""

import cpu_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4,000 images of CIFAR-10, 20 epochs, one keep ratio."""
  config = cpu_dense.get_config()
  config.controller.keep_ratio = 0.3
  return config
