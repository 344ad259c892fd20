"""The dense arm with the usual regularisers: dropout and weight decay.

Claim:    a control: what masks may give, these give a dense network, too.
          Values of the Wide ResNet paper; tune them on held-out images with
            python experiments/sweep.py --config=wrn_regularised
              --fields=model.dropout:0:0.5,optimizer.weight_decay:1e-5:1e-2:log
          (a line), which writes the best as a config.
Command:  python -m sparse_regimes.main --config=configs/wrn_regularised.py
Cost:     195,000 steps; many days on a CPU, so meant for a TPU or a GPU. The
          run prints its own estimate after the first steps.
Expected: not in the paper; not yet run at this size here.
Source:   dropout 0.3 and weight decay 5e-4: Zagoruyko and Komodakis, arXiv
          1605.07146.
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
  config.model.dropout = 0.3
  config.model.dtype = "auto"  # bfloat16 on TPU and GPU, float32 on CPU

  config.controller = ConfigDict()
  config.controller.name = "constant"
  config.controller.keep_ratio = 1.0

  config.optimizer = ConfigDict()
  config.optimizer.learning_rate = 0.1
  config.optimizer.reference_batch_size = 128
  config.optimizer.momentum = 0.9
  config.optimizer.nesterov = True
  config.optimizer.weight_decay = 5e-4
  config.optimizer.schedule = "cosine"

  config.train = ConfigDict()
  config.train.epochs = 500
  config.train.batch_size = 128

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  return config
