"""ViT-Ti/4 with synaptic noise on its MLPs.

Claim:    noise on weights, redrawn for every token, drives activations to be
          sparse.
Command:  python -m sparse_regimes.main --config=configs/vit_noise.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Noise of 0.1 of the root mean square weight."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.size = "Ti"
  config.model.patch = 4
  config.model.activation = "relu"
  config.model.noise = 0.1

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
