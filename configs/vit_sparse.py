"""ViT-Ti/4 with the modules for flat minima, from scratch.

Claim:    zeroth biases, restricted layer norms and J-SquaredReLU make hidden
          activations sparser at the same accuracy.
Command:  python -m sparse_regimes.main --config=configs/vit_sparse.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Zeroth bias 0.1, restricted layer norm, J-SquaredReLU."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.size = "Ti"
  config.model.patch = 4
  config.model.activation = "jsrelu"
  config.model.norm = "restricted"
  config.model.zeroth_bias = "input"

  config.controller = ConfigDict()
  config.controller.name = "constant"
  config.controller.keep_ratio = 1.0

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 1e-4
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"
  config.optimizer.zeroth_bias_bound = 0.1

  config.train = ConfigDict()
  config.train.epochs = 100
  config.train.batch_size = 64

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  return config
