"""ViT-Ti/4 with the modules for flat minima, from scratch.

Claim:    zeroth biases, restricted layer norms and J-SquaredReLU make hidden
          activations sparser at the same accuracy.
Command:  python -m sparse_regimes.main --config=configs/vit_sparse.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

import vit_vanilla
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Zeroth bias 0.1, restricted layer norm, J-SquaredReLU."""
  config = vit_vanilla.get_config()
  config.model.activation = "jsrelu"
  config.model.norm = "restricted"
  config.model.zeroth_bias = "input"
  return config
