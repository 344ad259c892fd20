"""Do pre-activations gather where no activation is zero?

Claim:    with an S whose flat part is at 1.6, pre-activations gather in the
          flat part, so sparse derivatives come first.
Command:  python -m sparse_regimes.main --config=configs/mlp_shifted.py
Cost:     156,200 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

import mlp_vanilla
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """A shifted S on the residual MLP."""
  config = mlp_vanilla.get_config()
  config.model.activation = "s_jsrelu"
  config.model.shift_x = 1.6
  config.model.shift_y = 1.6
  return config
