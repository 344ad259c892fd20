"""Do pre-activations gather where no activation is zero? On two CPU cores.

Claim:    with an S whose flat part is at 1.6, pre-activations gather in the
          flat part, so sparse derivatives come first.
Command:  python -m sparse_regimes.main --config=configs/cpu_mlp_shifted.py
Cost:     about a minute on one of two cores.
Expected: 0.4447 ± 0.0021 dense after 20 epochs, over three seeds;
          experiments/results/flat_minima/README.md says what else.
Source:   Peng et al., arXiv 2309.03004, scaled down; mlp_shifted is the full
          size.
"""

import cpu_mlp
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """A shifted S on a residual MLP, 8,000 images, 20 epochs."""
  config = cpu_mlp.get_config()
  config.model.activation = "s_jsrelu"
  config.model.shift_x = 1.6
  config.model.shift_y = 1.6
  return config
