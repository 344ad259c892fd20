"""Strategy 1 without its feedback: it hears of accuracy at the wrong time.

Claim:    a control for the adaptive arm: the same rule and the same accuracies,
          drawn from the latest epoch at random, so that resets do not answer
          what happens now.
Command:  python -m sparse_regimes.main --config=configs/wrn_shuffled.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: not in the paper; not yet run at this size here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs under a controller that is misled."""
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
  config.controller.name = "strategy1"
  config.controller.keep_init = 1.0
  config.controller.keep_min = 0.0
  config.controller.keep_max = 1.0
  config.controller.tighten_pct = 0.018
  config.controller.relax_step = 1.0
  config.controller.ema_beta = 0.5
  config.controller.drop_tol = 0.12
  config.controller.cooldown = 3
  config.controller.relax_gain = 1.5
  config.controller.max_relax_jump = 1.0
  config.controller.decide_every = 128

  config.signal = ConfigDict()
  config.signal.shuffle_window = 390  # an epoch

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
