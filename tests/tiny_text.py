"""A language model that compiles in a moment, on a short text."""

from pathlib import Path

from ml_collections import ConfigDict

TEXT = Path(__file__).parent.parent / "LICENSE"


def get_config() -> ConfigDict:
  config = ConfigDict()
  config.task = ConfigDict({"name": "language", "context": 16})
  config.data = ConfigDict({"name": f"text:{TEXT}", "num_train": 80})
  config.model = ConfigDict(
    {"name": "transformer", "depth": 2, "width": 16, "heads": 2}
  )
  config.controller = ConfigDict(
    {"name": "strategy1", "signal": "loss", "drop_tol": 0.5}
    | {"tighten_pct": 0.3, "decide_every": 3}
  )
  config.optimizer = ConfigDict(
    {"name": "adam", "learning_rate": 3e-3, "reference_batch_size": 0}
  )
  config.train = ConfigDict({"epochs": 2, "batch_size": 8})
  config.eval = ConfigDict({"batch_size": 32, "num_train": 32})
  config.log = ConfigDict({"backends": "", "page": False})
  return config
