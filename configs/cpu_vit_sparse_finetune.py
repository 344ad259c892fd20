r"""From a trained cpu_vit to a sparse one, for two CPU cores.

Claim:    a trained network becomes sparse: zeroth biases are added, layer
          norms lifted to 1 and ReLU mixed into J-SquaredReLU over 1,250
          steps (10 epochs). train.start_from is the folder of such a run.
Command:  python -m sparse_regimes.main \
            --config=configs/cpu_vit_sparse_finetune.py \
            --config.train.start_from=runs/cpu_vit
Cost:     two to three and a half minutes on one of two cores.
Expected: 0.4142 ± 0.0113 dense, over three orders of the images, from one
          run; experiments/results/flat_minima/README.md says what else.
Source:   Peng et al., arXiv 2309.03004, scaled down; vit_sparse_finetune is
          the full size.
"""

import cpu_vit
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Fine-tuning for sparsity over 20 epochs of 8,000 images."""
  config = cpu_vit.get_config()
  config.model.activation = "jsrelu"
  config.model.mix_steps = 1250
  config.model.norm = "restricted_finetune"
  config.model.zeroth_bias = "input"
  config.optimizer.uplift_steps = 1250
  # Say where: --config.train.start_from=runs/cpu_vit-...
  return config
