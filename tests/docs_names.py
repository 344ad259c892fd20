"""The names that are public: those of ``__all__`` of these packages."""

import importlib

PUBLIC = [
  "sparse_regimes",
  "sparse_regimes.analysis",
  "sparse_regimes.controllers",
  "sparse_regimes.data",
  "sparse_regimes.layers",
  "sparse_regimes.models",
  "sparse_regimes.nnx",
  "sparse_regimes.tasks",
  "sparse_regimes.tasks.classification",
  "sparse_regimes.tasks.language",
  "sparse_regimes.tasks.reinforcement",
]


def public_names(module):
  """The names of a package's ``__all__``."""
  return importlib.import_module(module).__all__
