"""The paper's dense baseline: WRN-28-4, CIFAR-10, no augmentation.

Claim:    the reference point of the other arms: the same network and training
          with every activation kept.
Command:  python -m sparse_regimes.main --config=configs/wrn_dense.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: test accuracy 0.869 (Wang, arXiv 2603.03131, one run). Not yet run
          at this size here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-28-4 for 500 epochs, keep ratio 1."""
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
  config.controller.name = "constant"
  config.controller.keep_ratio = 1.0

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
