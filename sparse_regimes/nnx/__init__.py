"""The same for Flax NNX: the sparse activation, and the way into a step."""

from sparse_regimes.nnx.functional import functional
from sparse_regimes.nnx.residual_mlp import ResidualMLP
from sparse_regimes.nnx.sparse_activation import SparseActivation

__all__ = ["ResidualMLP", "SparseActivation", "functional"]
