"""A collapse: WRN-10-2 on 4,000 images under the released controller.

Claim:    with a fast clock the released controller compresses until training
          breaks down; after the reset the network does not recover, and the
          best average, which never comes down, keeps the budget dense.
Command:  python -m sparse_regimes.main --config=configs/collapse.py
Cost:     some 40 minutes on one of two CPU cores.
Expected: a reset in epoch 19 after which the network does not come back, 0.358
          dense test accuracy at the end; docs/collapse.md has remedies.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-10-2 for 60 epochs, three decisions an epoch, 5 % each."""
  config = ConfigDict()

  config.data = ConfigDict()
  config.data.num_train = 4000
  config.data.num_test = 2000

  config.model = ConfigDict()
  config.model.depth = 10
  config.model.widen = 2

  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  config.controller.tighten_pct = 0.05
  config.controller.decide_every = 10

  config.train = ConfigDict()
  config.train.epochs = 60

  config.eval = ConfigDict()
  config.eval.num_train = 500

  config.checkpoint = ConfigDict()
  config.checkpoint.keep = 1
  return config
