"""A network that overfits small images: where regularisers have work to do.

Claim:    a setting in which tuned dropout is known to help, so that a regime
          that helps would show; experiments/results/regimes/PROTOCOL.md.
Command:  python experiments/make_cifar16.py && \
          python -m sparse_regimes.main --config=configs/study_image.py
Cost:     a minute on a CPU core of its own.
Expected: docs/results.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """WRN-10-1 on 1,000 images of CIFAR-10 at 16 x 16, dense."""
  config = ConfigDict()
  config.data = ConfigDict({"name": "npz:runs/cifar16.npz"})
  config.data.update({"num_train": 1_000, "num_test": 2_000})
  config.model = ConfigDict({"depth": 10, "widen": 1})
  config.optimizer = ConfigDict({"learning_rate": 0.1, "clip_norm": 1.0})
  config.train = ConfigDict({"epochs": 30, "batch_size": 50})
  config.checkpoint = ConfigDict({"keep": 1, "every_epochs": 0})
  return config
