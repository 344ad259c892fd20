"""The smoke run with a network that compiles in a moment.

For tests of what is around a network: how runs are started, stopped, saved,
queued, compared. ``package_test`` trains the smoke config's own network.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

CONFIGS = Path(__file__).parent.parent / "configs"


def get_config() -> ConfigDict:
  config = runpy.run_path(str(CONFIGS / "smoke.py"))["get_config"]()
  config.model = ConfigDict({"name": "residual_mlp", "width": 16, "depth": 2})
  # One shape of batches less to compile for; evaluate_test has shorter ones.
  config.eval.num_train = config.eval.batch_size
  # Pictures and events take longer than the training: who looks at them asks.
  config.log = ConfigDict({"backends": "", "page": False})
  return config
