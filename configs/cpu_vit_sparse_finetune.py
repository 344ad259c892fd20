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

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Fine-tuning for sparsity over 20 epochs of 8,000 images."""
  config = ConfigDict()
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "cifar10"
  config.data.num_train = 8000
  config.data.num_test = 2000

  config.model = ConfigDict()
  config.model.name = "vision_transformer"
  config.model.depth = 4
  config.model.width = 64
  config.model.heads = 4
  config.model.patch = 8
  config.model.activation = "jsrelu"
  config.model.norm = "restricted_finetune"
  config.model.zeroth_bias = "input"
  config.model.mix_steps = 1250

  config.controller = ConfigDict()
  config.controller.name = "constant"
  config.controller.keep_ratio = 1.0

  config.optimizer = ConfigDict()
  config.optimizer.name = "adam"
  # Ten times the full size's: there are a thirtieth of its steps.
  config.optimizer.learning_rate = 1e-3
  config.optimizer.reference_batch_size = 0
  config.optimizer.schedule = "constant"
  config.optimizer.uplift_steps = 1250

  config.train = ConfigDict()
  # Say where: --config.train.start_from=runs/cpu_vit-...
  config.train.start_from = ""
  config.train.epochs = 20
  config.train.batch_size = 64

  config.eval = ConfigDict()
  config.eval.batch_size = 500
  config.eval.num_train = 500

  # The measures look at the end of every epoch.
  config.checkpoint = ConfigDict()
  config.checkpoint.keep = 1000
  return config
