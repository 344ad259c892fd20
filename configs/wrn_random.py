"""Budgets without order: WRN-28-4 with one drawn at every step.

Claim:    a control for the adaptive arms: many budgets, but no cycle.
Command:  python -m sparse_regimes.main --config=configs/wrn_random.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: not in the paper; not yet run at this size here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs, keep ratios log-uniform from 0.1 to 1."""
  config = ConfigDict()
  config.seed = 3407

  config.data = ConfigDict()
  config.data.name = "cifar10"

  config.model = ConfigDict()
  config.model.depth = 28
  config.model.widen = 4
  config.model.norm = "rms"
  config.model.activation = "relu"
  config.model.scope = "global"
  config.model.score = "value"
  config.model.dtype = "auto"  # bfloat16 on TPU and GPU, float32 on CPU

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
  config.train.epochs = 500
  config.train.batch_size = 128

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  return config
