"""Quickstart: a small network lives through several budget cycles.

Claim:    one network trains while its activation budget is compressed step by
          step and reset to dense whenever accuracy falls; it then runs at any
          budget. 1,280 images are far too few to say more.
Command:  make quickstart
Cost:     1 to 3 minutes on two CPU cores, after the installation.
Expected: the budget falls to about 0.1 and is reset six or seven times; dense
          test accuracy 0.37 to 0.39 on 256 images (0.1 is chance).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-10-1 on the embedded subset, Strategy 1 at a brisk pace."""
  config = ConfigDict()

  config.data = ConfigDict()
  config.data.name = "cifar10_mini"

  config.model = ConfigDict()
  config.model.depth = 10
  config.model.widen = 1

  # Faster than the released controller: a run of 1,200 steps has to see the
  # budget fall and come back.
  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  config.controller.tighten_pct = 0.25
  config.controller.ema_beta = 0.9
  config.controller.drop_tol = 0.04
  config.controller.cooldown = 2
  config.controller.decide_every = 20

  config.optimizer = ConfigDict()
  config.optimizer.learning_rate = 0.05
  config.optimizer.reference_batch_size = 0

  config.train = ConfigDict()
  config.train.epochs = 30
  config.train.batch_size = 32

  config.eval = ConfigDict()
  config.eval.batch_size = 256
  return config
