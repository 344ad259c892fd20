"""One network, trained across many activation-sparsity budgets."""

from sparse_regimes import (
  activations,
  analysis,
  controllers,
  layers,
  models,
  projections,
)
from sparse_regimes.layers import SparseActivation
from sparse_regimes.models.wide_resnet import WideResNet
from sparse_regimes.selection import (
  num_kept,
  sparse_activation,
  sparsify,
  topk_mask,
)
from sparse_regimes.state import TrainState
from sparse_regimes.step import make_eval_step, make_train_step

__all__ = [
  "SparseActivation",
  "TrainState",
  "WideResNet",
  "activations",
  "analysis",
  "controllers",
  "layers",
  "make_eval_step",
  "make_train_step",
  "models",
  "num_kept",
  "projections",
  "sparse_activation",
  "sparsify",
  "topk_mask",
]
__version__ = "0.1.0"
