"""A small vision transformer for two CPU cores: what the modules do to it.

Claim:    the reference point of the flat_minima studies: layer norm, ReLU.
Command:  python -m sparse_regimes.main --config=configs/cpu_vit.py
Cost:     two to three and a half minutes on one of two cores.
Expected: 0.4040 ± 0.0026 dense after 20 epochs, over three seeds;
          experiments/results/flat_minima/README.md says what else.
Source:   Peng et al., arXiv 2309.03004, scaled down; vit_vanilla is the full
          size.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Four blocks of width 64, patches of 8 x 8, 8,000 images, 20 epochs."""
  config = ConfigDict()

  config.data = ConfigDict()
  config.data.num_train = 8000
  config.data.num_test = 2000

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.depth = 4
  config.model.width = 64
  config.model.heads = 4
  config.model.patch = 8

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  # Ten times the full size's: there are a thirtieth of its steps.
  config.optimizer.learning_rate = 1e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"

  config.train = ConfigDict()
  config.train.epochs = 20
  config.train.batch_size = 64

  config.eval = ConfigDict()
  config.eval.num_train = 500

  # The measures look at the end of every epoch.
  config.checkpoint = ConfigDict()
  config.checkpoint.keep = 1000
  return config
