"""A vision transformer as it is: ViT-Ti/4 on CIFAR-10.

Claim:    the reference point of the sparse arms: layer norm, ReLU.
Command:  python -m sparse_regimes.main --config=configs/vit_vanilla.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """ViT-Ti/4 for 100 epochs of Adam."""
  config = ConfigDict()

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.size = "Ti"
  config.model.patch = 4

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 1e-4
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"

  config.train = ConfigDict()
  config.train.epochs = 100
  config.train.batch_size = 64

  return config
