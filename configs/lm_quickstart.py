"""Quickstart for text: a small network lives through budget cycles.

Claim:    a language model trains while the budget of each token is compressed
          step by step and reset to dense whenever its loss rises; it then
          writes at any budget.
Command:  python -m sparse_regimes.main --config=configs/lm_quickstart.py
Cost:     under 4 minutes on two CPU cores.
Expected: four resets, 1.854 nats when dense (one seed).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """3 layers of 96, Strategy 1 on the loss."""
  config = ConfigDict()
  config.task = ConfigDict({"name": "language", "context": 64})
  # An epoch of 500 steps.
  config.data = ConfigDict({"name": "shakespeare", "num_train": 8_000})
  config.model = ConfigDict()
  config.model.name = "transformer"
  config.model.depth = 3
  config.model.width = 96
  config.model.activation = "relu"

  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  config.controller.signal = "loss"
  config.controller.drop_tol = 0.05
  config.controller.ema_beta = 0.9
  config.controller.tighten_pct = 0.2
  config.controller.cooldown = 2
  config.controller.decide_every = 20

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 3e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.beta2 = 0.99
  config.optimizer.clip_norm = 1.0
  config.optimizer.per_step = True

  config.train = ConfigDict()
  config.train.epochs = 4
  config.train.batch_size = 16

  config.eval = ConfigDict()
  config.eval.batch_size = 256
  config.eval.num_train = 256
  return config
