"""PPO on CartPole, dense: the anchor.

Claim:    with PureJaxRL's hyper-parameters the pole stands for all 500 steps
          within 500,000 steps of the environments.
Command:  python -m sparse_regimes.main --config=configs/ppo_cartpole_dense.py
Cost:     a minute on two CPU cores.
Expected: a return of 500, as much as there is.
Source:   hyper-parameters of PureJaxRL's ppo.py (Lu et al., 2022).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """4 environments, 976 rollouts of 128 steps, two networks of 64 and 64."""
  config = ConfigDict()
  # 19 epochs of 51 rollouts: 496,128 steps of environments.
  config.task = ConfigDict({"name": "reinforcement", "iterations": 51})
  config.data = ConfigDict({"name": "CartPole-v1"})
  config.model = ConfigDict({"name": "actor_critic"})
  # In the return's unit, which goes up to 500.
  config.collapse = ConfigDict({"drop_tol": 200.0})

  config.optimizer = ConfigDict()
  config.optimizer.name = "adamw"
  config.optimizer.learning_rate = 2.5e-4
  config.optimizer.reference_batch_size = 0
  config.optimizer.eps = 1e-5
  config.optimizer.weight_decay = 0.0
  config.optimizer.schedule = "linear"
  config.optimizer.per_step = True
  config.optimizer.clip_norm = 0.5

  config.train = ConfigDict()
  config.train.epochs = 19
  config.train.batch_size = 4
  config.train.steps_per_call = 17

  config.eval = ConfigDict()
  config.eval.batch_size = 32
  return config
