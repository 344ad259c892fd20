"""A character language model that is sparse while its pattern is stable.

Claim:    dense and sparse stages, as in sparsely-dense pre-training, by how
          alike the activations of two checks are; masks, no experts.
Command:  python -m sparse_regimes.main --config=configs/lm_ssd.py
Cost:     6 to 9 minutes on a CPU core of its own.
Expected: not measured; lm_dense and lm_strategy1 are what to compare it with.
"""

import lm_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """The sizes of lm_dense, a quarter kept in sparse stages."""
  config = lm_dense.get_config()
  config.controller = ConfigDict()
  config.controller.name = "ssd_switch"
  config.controller.keep_sparse = 0.25
  config.controller.check_every = 50
  config.controller.sparse_steps = 100
  # Two epochs of 1,000; the last 200 steps are dense.
  config.controller.total_steps = 2000
  config.controller.final_dense = 0.1
  return config
