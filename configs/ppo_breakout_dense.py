"""PPO on MinAtar's Breakout, dense, as far as two cores go in half an hour.

Claim:    a convolution learns to play; the anchor for budgets.
Command:  python -m sparse_regimes.main --config=configs/ppo_breakout_dense.py
Cost:     9 minutes on a CPU core of its own.
Expected: a return of 28.1 after 1.97 million steps.
Source:   hyper-parameters of PureJaxRL for MinAtar (Lu et al., 2022), the
          network of MinAtar (arXiv 1903.03176).
"""

import ppo_cartpole_dense
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """64 environments, rollouts of 128 steps, the convolution of MinAtar."""
  config = ppo_cartpole_dense.get_config()
  config.task.iterations = 12
  config.task.num_minibatches = 8
  config.data.name = "Breakout-MinAtar"
  config.model.network = "conv"
  config.model.width = 128
  config.model.activation = "relu"
  # In the return's unit.
  config.collapse.drop_tol = 5.0
  config.optimizer.learning_rate = 5e-3

  config.train.epochs = 20
  config.train.batch_size = 64
  config.train.steps_per_call = 4
  return config
