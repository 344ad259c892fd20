"""A regime study on a laptop, the dense arm: WRN-10-1, 4,000 images.

Claim:    the arm that the others are compared with, image for image.
Command:  python -m sparse_regimes.main --config=configs/cpu_dense.py
Cost:     5 to 9 minutes on a CPU core of its own.
Expected: 0.525 dense test accuracy (mean of 5 seeds).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4,000 images of CIFAR-10, 20 epochs, no mask."""
  config = ConfigDict()

  config.data = ConfigDict()
  config.data.num_train = 4000
  config.data.num_test = 2000

  config.model = ConfigDict()
  config.model.depth = 10
  config.model.widen = 1

  config.controller = ConfigDict()
  config.controller.name = "constant"
  config.controller.keep_ratio = 1.0

  config.optimizer = ConfigDict()
  config.optimizer.learning_rate = 0.1
  config.optimizer.weight_decay = 0.0

  config.train = ConfigDict()
  config.train.epochs = 20
  config.train.batch_size = 64

  config.eval = ConfigDict()
  config.eval.num_train = 500

  config.checkpoint = ConfigDict()
  config.checkpoint.keep = 1
  return config
