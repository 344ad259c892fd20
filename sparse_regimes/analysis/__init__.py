"""Measures of sparsity, flatness, spectra and robustness."""

from sparse_regimes.analysis.allocation import (
  AllocationRow,
  greedy_allocation,
)
from sparse_regimes.analysis.flatness import (
  augmented_flatness,
  hessian_sample,
  hessian_trace,
  l0_coefficient,
  mean_and_error,
  sharpness,
)
from sparse_regimes.analysis.measures import (
  Measures,
  measure_layer,
  measure_layers,
)
from sparse_regimes.analysis.probe import Layer, probe
from sparse_regimes.analysis.robustness import fgsm, fgsm_accuracy
from sparse_regimes.analysis.sparsity import (
  active_fraction,
  effective_gradient_fractions,
  gradient_norms,
  mean_norm,
  outside_flat,
)
from sparse_regimes.analysis.spectra import (
  Concentration,
  concentration,
  gram_eigenvalues,
  spectra,
)

__all__ = [
  "AllocationRow",
  "Concentration",
  "Layer",
  "Measures",
  "active_fraction",
  "augmented_flatness",
  "concentration",
  "effective_gradient_fractions",
  "fgsm",
  "fgsm_accuracy",
  "gradient_norms",
  "gram_eigenvalues",
  "greedy_allocation",
  "hessian_sample",
  "hessian_trace",
  "l0_coefficient",
  "mean_and_error",
  "mean_norm",
  "measure_layer",
  "measure_layers",
  "outside_flat",
  "probe",
  "sharpness",
  "spectra",
]
