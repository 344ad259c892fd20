"""The residual MLP as it is, on CIFAR-10.

Claim:    the reference point of mlp_sparse.
Command:  python -m sparse_regimes.main --config=configs/mlp_vanilla.py
Cost:     156,200 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Four hidden layers of 256, ReLU."""
  config = ConfigDict()

  config.model = ConfigDict()
  config.model.name = "residual_mlp"
  config.model.width = 256
  config.model.depth = 4

  config.optimizer = ConfigDict()
  config.optimizer.momentum = 0.0
  config.optimizer.nesterov = False
  config.optimizer.learning_rate = 1e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"

  config.train = ConfigDict()
  config.train.epochs = 100
  config.train.batch_size = 32

  return config
