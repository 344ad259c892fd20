"""The first paper's regimes on a transformer: ViT-Ti/4.

Claim:    cycling budgets are not bound to convolutions.
Command:  python -m sparse_regimes.main --config=configs/vit_strategy1.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004, on the
          controller of Wang, arXiv 2603.03131.
"""

import vit_vanilla
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Strategy 1 with its released values on the MLPs."""
  config = vit_vanilla.get_config()
  config.controller = ConfigDict({"name": "strategy1"})
  return config
