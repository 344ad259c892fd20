"""From a trained vit_vanilla to a sparse one.

Claim:    a trained network becomes sparse: zeroth biases are added, layer
          norms lifted to 1 and ReLU mixed into J-SquaredReLU over 7,810
          steps (10 epochs). train.start_from is the folder of such a run.
Command:  python -m sparse_regimes.main \
            --config=configs/vit_sparse_finetune.py \
            --config.train.start_from=runs/vanilla
Cost:     15,620 steps; days on a CPU, so meant for a TPU or a GPU.
Expected: not run at this size here.
Source:   Peng et al., arXiv 2309.03004.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Fine-tuning for sparsity over 20 epochs."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.size = "Ti"
  config.model.patch = 4
  config.model.activation = "jsrelu"
  config.model.norm = "restricted_finetune"
  config.model.zeroth_bias = "input"
  config.model.mix_steps = 7810

  config.controller = ConfigDict()
  config.controller.name = "constant"
  config.controller.keep_ratio = 1.0

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  config.optimizer.learning_rate = 1e-4
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"
  config.optimizer.uplift_steps = 7810

  config.train = ConfigDict()
  # Say where: --config.train.start_from=runs/vit_vanilla-...
  config.train.start_from = ""
  config.train.epochs = 20
  config.train.batch_size = 64

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  return config
