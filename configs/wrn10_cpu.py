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

  config.data = ConfigDict()
  config.data.name = "cifar10"

  config.model = ConfigDict()
  config.model.depth = 10
  config.model.widen = 1
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

  config.optimizer = ConfigDict()
  config.optimizer.learning_rate = 0.1
  config.optimizer.reference_batch_size = 128
  config.optimizer.momentum = 0.9
  config.optimizer.nesterov = True
  config.optimizer.weight_decay = 0.0
  config.optimizer.schedule = "cosine"

  config.train = ConfigDict()
  config.train.epochs = 3
  config.train.batch_size = 128

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  return config
