"""A vision transformer with hidden layers below token width.

Claim:    the third modification: an MLP half as wide as a token, in a wider
          and deeper network.
Command:  python -m sparse_regimes.main --config=configs/vit_wide.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004,
          scaled from ViT-B/16 with width 1536 and hidden width 768.
"""

import vit_vanilla
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """24 layers, tokens of 384, hidden layers of 192."""
  config = vit_vanilla.get_config()
  config.model.depth = 24
  config.model.heads = 6
  config.model.mlp_width = 192
  config.model.width = 384
  return config
