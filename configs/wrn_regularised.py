"""The dense arm with the usual regularisers: dropout and weight decay.

Claim:    a control: what masks may give, these give a dense network, too.
          Values of the Wide ResNet paper; tune them on held-out images with
            python -m sparse_regimes search --config=wrn_regularised
              --fields=model.dropout:0:0.5,optimizer.weight_decay:1e-5:1e-2:log
          (a line), which writes the best as a config.
Command:  python -m sparse_regimes.main --config=configs/wrn_regularised.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: not in the paper; not yet run at this size here.
Source:   dropout 0.3 and weight decay 5e-4: Zagoruyko and Komodakis, arXiv
          1605.07146.
"""

import wrn_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs, keep ratio 1."""
  config = wrn_dense.get_config()
  config.model.dropout = 0.3
  config.optimizer.weight_decay = 0.0005
  return config
