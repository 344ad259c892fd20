"""Networks whose hidden activations pass a top-k mask."""

from sparse_regimes.models.actor_critic import ActorCritic
from sparse_regimes.models.mlp_block import MLPBlock
from sparse_regimes.models.residual_mlp import ResidualMLP
from sparse_regimes.models.transformer import Transformer
from sparse_regimes.models.vision_transformer import VisionTransformer
from sparse_regimes.models.wide_resnet import WideResNet

__all__ = [
  "ActorCritic",
  "MLPBlock",
  "ResidualMLP",
  "Transformer",
  "VisionTransformer",
  "WideResNet",
]
