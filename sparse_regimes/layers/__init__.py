"""Linen modules: the sparse activation, norms, and modules for flat minima."""

from sparse_regimes.layers.gathered import GatheredDense, gathered_product
from sparse_regimes.layers.norms import (
  NORMS,
  BatchNorm,
  RestrictedLayerNorm,
  RMSNorm,
  make_norm,
)
from sparse_regimes.layers.sparse_activation import SparseActivation
from sparse_regimes.layers.synaptic_noise import SynapticNoise, synaptic_noise
from sparse_regimes.layers.taps import tap
from sparse_regimes.layers.token_product import token_product
from sparse_regimes.layers.zeroth_bias import ZerothBias

__all__ = [
  "NORMS",
  "BatchNorm",
  "GatheredDense",
  "RMSNorm",
  "RestrictedLayerNorm",
  "SparseActivation",
  "SynapticNoise",
  "ZerothBias",
  "gathered_product",
  "make_norm",
  "synaptic_noise",
  "tap",
  "token_product",
]
