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

import vit_vanilla
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Fine-tuning for sparsity over 20 epochs."""
  config = vit_vanilla.get_config()
  config.model.activation = "jsrelu"
  config.model.mix_steps = 7810
  config.model.norm = "restricted_finetune"
  config.model.zeroth_bias = "input"
  config.optimizer.uplift_steps = 7810
  config.train.epochs = 20
  # Say where: --config.train.start_from=runs/vit_vanilla-...
  return config
