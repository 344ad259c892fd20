"""PPO on MinAtar's Breakout, dense, as far as two cores go in half an hour.

Claim:    a convolution learns to play; the anchor for budgets.
Command:  python -m sparse_regimes.main --config=configs/ppo_breakout_dense.py
Cost:     9 minutes on a CPU core of its own.
Expected: a return of 28.1 after 1.97 million steps.
Source:   hyper-parameters of PureJaxRL for MinAtar (Lu et al., 2022), the
          network of MinAtar (arXiv 1903.03176).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """64 environments, rollouts of 128 steps, the convolution of MinAtar."""
  config = ConfigDict()
  config.task = ConfigDict()
  config.task.name = "reinforcement"
  config.task.iterations = 12
  config.task.num_minibatches = 8
  config.data = ConfigDict({"name": "Breakout-MinAtar"})
  config.model = ConfigDict()
  config.model.name = "actor_critic"
  config.model.network = "conv"
  config.model.width = 128
  config.model.activation = "relu"
  # In the return's unit.
  config.collapse = ConfigDict({"drop_tol": 5.0})

  config.optimizer = ConfigDict()
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 5e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.eps = 1e-5
  config.optimizer.weight_decay = 0.0
  config.optimizer.schedule = "linear"
  config.optimizer.per_step = True
  config.optimizer.clip_norm = 0.5

  config.train = ConfigDict()
  config.train.epochs = 20
  config.train.batch_size = 64
  config.train.steps_per_call = 4

  config.eval = ConfigDict()
  config.eval.batch_size = 32
  return config
