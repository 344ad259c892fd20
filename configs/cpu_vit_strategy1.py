"""A small vision transformer under Strategy 1, for two CPU cores.

Claim:    do the regimes of the first paper change what the second one measures?
Command:  python -m sparse_regimes.main --config=configs/cpu_vit_strategy1.py
Cost:     two and a half to three and a half minutes on one of two cores.
Expected: 0.4052 ± 0.0175 dense after 20 epochs, over three seeds;
          experiments/results/flat_minima/README.md says what else.
Source:   Wang, arXiv 2603.03131, with a decision every 20 batches, 5 % each,
          on a slower average; vit_strategy1 is the full size.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Four blocks of width 64, patches of 8 x 8, 8,000 images, 20 epochs."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"
  config.data.num_train = 8000
  config.data.num_test = 2000

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.depth = 4
  config.model.width = 64
  config.model.heads = 4
  config.model.patch = 8
  config.model.activation = "relu"

  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  config.controller.tighten_pct = 0.05
  # With the released 0.5 the noise of single batches of 64 resets the budget
  # before it gets low; with 0.95 it fell to 0.002 without a reset.
  config.controller.ema_beta = 0.8
  config.controller.drop_tol = 0.12
  config.controller.cooldown = 3
  config.controller.decide_every = 20

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  # Ten times the full size's: there are a thirtieth of its steps.
  config.optimizer.learning_rate = 1e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"

  config.train = ConfigDict()
  config.train.epochs = 20
  config.train.batch_size = 64

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  config.eval.num_train = 500

  # The measures look at the end of every epoch.
  config.checkpoint = ConfigDict()
  config.checkpoint.keep = 1000
  return config
