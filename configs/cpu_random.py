"""A regime study on a laptop: random budgets on WRN-10-1, 4,000 images.

Claim:    many budgets, but no order and no feedback.
Command:  python -m sparse_regimes.main --config=configs/cpu_random.py
Cost:     5 to 9 minutes on a CPU core of its own.
Expected: 0.494 dense test accuracy (mean of 5 seeds; dense arm 0.525).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4,000 images of CIFAR-10, 20 epochs, a keep ratio drawn at every step."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"
  config.data.num_train = 4000
  config.data.num_test = 2000

  config.model = ConfigDict()
  config.model.depth = 10
  config.model.widen = 1
  config.model.norm = "rms"
  config.model.activation = "relu"
  config.model.scope = "global"
  config.model.score = "value"

  config.controller = ConfigDict()
  config.controller.name = "random_ratio"
  config.controller.keep_min = 0.1
  config.controller.keep_max = 1.0
  config.controller.decide_every = 1

  config.optimizer = ConfigDict()
  config.optimizer.learning_rate = 0.1
  config.optimizer.reference_batch_size = 128
  config.optimizer.momentum = 0.9
  config.optimizer.nesterov = True
  config.optimizer.weight_decay = 0.0
  config.optimizer.schedule = "cosine"

  config.train = ConfigDict()
  config.train.epochs = 20
  config.train.batch_size = 64

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  config.eval.num_train = 500

  config.checkpoint = ConfigDict()
  config.checkpoint.keep = 1
  return config
