"""PPO on CartPole, as short as can be."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = ConfigDict(
    {"name": "reinforcement", "iterations": 10, "num_steps": 16}
    | {"num_epochs": 2, "num_minibatches": 2, "episodes": 8}
  )
  config.data = ConfigDict({"name": "CartPole-v1"})
  config.model = ConfigDict({"name": "actor_critic", "width": 16, "depth": 1})
  config.controller = ConfigDict(
    {"name": "strategy1", "signal": "return", "drop_tol": 40.0}
    | {"tighten_pct": 0.3, "decide_every": 3}
  )
  config.optimizer = ConfigDict(
    {"name": "adamw", "learning_rate": 3e-3, "reference_batch_size": 0}
    | {"weight_decay": 0.0, "schedule": "linear", "per_step": True}
  )
  config.train = ConfigDict({"epochs": 2, "batch_size": 4})
  config.eval = ConfigDict({"batch_size": 8})
  config.log = ConfigDict({"backends": "", "page": False})
  return config
