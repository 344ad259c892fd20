"""A network that overfits small images: where regularisers have work to do.

Claim:    a setting in which tuned dropout is known to help, so that a regime
          that helps would show; experiments/results/regimes/PROTOCOL.md.
Command:  in a checkout, python experiments/make_cifar16.py && \
          python -m sparse_regimes.main --config=configs/study_image.py
Cost:     a minute on a CPU core of its own.
Expected: docs/results.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """A residual MLP on 2,000 images of CIFAR-10 at 16 x 16, dense."""
  config = ConfigDict()
  config.data = ConfigDict({"name": "npz:runs/cifar16.npz"})
  config.data.update({"num_train": 2_000, "num_test": 2_000})
  config.model = ConfigDict({"name": "residual_mlp", "width": 128, "depth": 4})

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.per_step = True
  config.optimizer.clip_norm = 1.0

  config.train = ConfigDict({"epochs": 30, "batch_size": 50})
  config.eval = ConfigDict({"batch_size": 1000})
  config.checkpoint = ConfigDict({"keep": 1, "every_epochs": 0})
  return config
