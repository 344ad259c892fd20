"""Smoke test: the whole path in seconds, nothing about accuracy.

Claim:    none. A tiny network on a few images of the embedded subset, with a
          budget that compresses at every decision, so that every file of a run
          and every branch of the loop is exercised.
Command:  python -m sparse_regimes.main --config=configs/smoke.py
Cost:     about 20 seconds on two CPU cores, mostly compilation.
Expected: the keep ratio falls in every epoch, to about 0.1.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-10-1, Strategy 1, a few epochs of large batches."""
  config = ConfigDict()

  config.data = ConfigDict()
  config.data.name = "cifar10_mini"

  config.model = ConfigDict()
  config.model.depth = 10
  config.model.widen = 1

  config.controller = ConfigDict()
  config.controller.name = "strategy1"
  config.controller.tighten_pct = 0.2
  config.controller.decide_every = 3

  config.train = ConfigDict()
  config.train.epochs = 3

  config.eval = ConfigDict()
  config.eval.batch_size = 256
  return config
