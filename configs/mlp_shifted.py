"""Do pre-activations gather where no activation is zero?

Claim:    with an S whose flat part is at 1.6, pre-activations gather in the
          flat part, so sparse derivatives come first.
Command:  python -m sparse_regimes.main --config=configs/mlp_shifted.py
Cost:     156,200 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """A shifted S on the residual MLP."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"

  config.model = ConfigDict()
  config.model.name = "residual_mlp"
  config.model.width = 256
  config.model.depth = 4
  config.model.activation = "s_jsrelu"
  config.model.shift_x = 1.6
  config.model.shift_y = 1.6

  config.controller = ConfigDict()
  config.controller.name = "constant"
  config.controller.keep_ratio = 1.0

  config.optimizer = ConfigDict()
  config.optimizer.name = "sgd"
  config.optimizer.momentum = 0.0
  config.optimizer.nesterov = False
  config.optimizer.learning_rate = 1e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"

  config.train = ConfigDict()
  config.train.epochs = 100
  config.train.batch_size = 32

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  return config
