"""The first paper's regimes on a transformer: ViT-Ti/4.

Claim:    cycling budgets are not bound to convolutions.
Command:  python -m sparse_regimes.main --config=configs/vit_strategy1.py
Cost:     78,100 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004, on the
          controller of Wang, arXiv 2603.03131.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Strategy 1 with its released values on the MLPs."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.size = "Ti"
  config.model.patch = 4
  config.model.activation = "relu"

  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  config.controller.tighten_pct = 0.018
  config.controller.drop_tol = 0.12
  config.controller.cooldown = 3
  config.controller.decide_every = 128

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
