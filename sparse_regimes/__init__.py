"""One network, trained across many activation-sparsity budgets."""

from sparse_regimes import interrupts

interrupts.while_importing()

from sparse_regimes import analysis, controllers, layers, models, nnx
from sparse_regimes.controllers import Controller
from sparse_regimes.layers import SparseActivation
from sparse_regimes.masks import activations
from sparse_regimes.masks.budget import num_kept
from sparse_regimes.masks.masking import sparse_activation
from sparse_regimes.masks.selection import sparsify, topk_mask
from sparse_regimes.masks.sites import at_site
from sparse_regimes.models.wide_resnet import WideResNet
from sparse_regimes.training import projections
from sparse_regimes.training.classification import classification_loss
from sparse_regimes.training.eval_step import make_eval_step
from sparse_regimes.training.state import TrainState
from sparse_regimes.training.step import make_step, make_train_step

__all__ = [
  "Controller",
  "SparseActivation",
  "TrainState",
  "WideResNet",
  "activations",
  "analysis",
  "at_site",
  "classification_loss",
  "controllers",
  "layers",
  "make_eval_step",
  "make_step",
  "make_train_step",
  "models",
  "nnx",
  "num_kept",
  "projections",
  "sparse_activation",
  "sparsify",
  "topk_mask",
]
__version__ = "0.1.0"
