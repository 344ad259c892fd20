"""The real data on a laptop: WRN-10-1, CIFAR-10, Strategy 1, three epochs.

Claim:    the whole path from the official images to an evaluated checkpoint,
          at a size that two CPU cores finish while you wait.
Command:  python -m sparse_regimes.main --config=configs/wrn10_cpu.py
Cost:     5 to 10 minutes on two CPU cores, once the data is there.
Expected: dense test accuracy 0.6 on all 10,000 test images. Nine decisions
          leave the budget at 0.85, above the share that ReLU leaves nonzero:
          no activation is masked yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-10-1 for 3 epochs under the released controller."""
  config = ConfigDict()
  config.seed = 3407

  config.model = ConfigDict()
  config.model.depth = 10
  config.model.widen = 1

  config.controller = ConfigDict()
  config.controller.name = "strategy1"

  config.train = ConfigDict()
  config.train.epochs = 3

  return config
