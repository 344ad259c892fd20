"""A character language model, dense: what the others are compared with.

Claim:    nanoGPT's small settings (4 layers, 128 wide, context 64, 2,000 steps
          of 12 windows) reach its validation loss of 1.88 nats here, on other
          editions of Shakespeare.
Command:  python -m sparse_regimes.main --config=configs/lm_dense.py
Cost:     6 minutes on a CPU core of its own.
Expected: 1.857 nats on the last tenth of the plays.
Source:   the sizes are those of Karpathy's nanoGPT, train_shakespeare_char.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4 layers of 128, no mask."""
  config = ConfigDict()
  config.task = ConfigDict({"name": "language", "context": 64})
  # An epoch of 1,000 steps.
  config.data = ConfigDict({"name": "shakespeare", "num_train": 12_000})
  config.model = ConfigDict({"name": "transformer"})

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 2e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.momentum = 0.9
  config.optimizer.beta2 = 0.99
  config.optimizer.weight_decay = 0.1
  config.optimizer.clip_norm = 1.0
  config.optimizer.per_step = True

  config.train = ConfigDict()
  config.train.epochs = 2
  config.train.batch_size = 12

  config.eval = ConfigDict()
  config.eval.batch_size = 128
  config.eval.num_train = 256
  return config
