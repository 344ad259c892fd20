"""The residual MLP with the modules for flat minima.

Claim:    as vit_sparse, on a network without attention.
Command:  python -m sparse_regimes.main --config=configs/mlp_sparse.py
Cost:     156,200 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

import mlp_vanilla
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Zeroth bias, restricted layer norm, J-SquaredReLU."""
  config = mlp_vanilla.get_config()
  config.model.activation = "jsrelu"
  config.model.norm = "restricted"
  config.model.zeroth_bias = "input"
  return config
