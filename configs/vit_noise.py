"""ViT-Ti/4 with synaptic noise on its MLPs.

Claim:    noise on weights, redrawn for every token, drives activations to be
          sparse.
Command:  python -m sparse_regimes.main --config=configs/vit_noise.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

import vit_vanilla
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Noise of 0.1 of the root mean square weight."""
  config = vit_vanilla.get_config()
  config.model.noise = 0.1
  return config
