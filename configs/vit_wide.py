"""A vision transformer with hidden layers below token width.

Claim:    the third modification: an MLP half as wide as a token, in a wider
          and deeper network.
Command:  python -m sparse_regimes.main --config=configs/vit_wide.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004,
          scaled from ViT-B/16 with width 1536 and hidden width 768.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """24 layers, tokens of 384, hidden layers of 192."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.depth = 24
  config.model.width = 384
  config.model.heads = 6
  config.model.mlp_width = 192
  config.model.patch = 4
  config.model.activation = "relu"

  config.controller = ConfigDict()
  config.controller.name = "constant"
  config.controller.keep_ratio = 1.0

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 1e-4
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"

  config.train = ConfigDict()
  config.train.epochs = 100
  config.train.batch_size = 64

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  return config
