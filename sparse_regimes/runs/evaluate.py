"""Loss, accuracy and sparsity over a whole split, at any keep ratio."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from sparse_regimes.runs.mesh import over_batches, place
from sparse_regimes.training.classification import Batch
from sparse_regimes.training.eval_step import EvalStep
from sparse_regimes.training.state import TrainState


def make_batches(
  images: np.ndarray, labels: np.ndarray, batch_size: int, mesh: Mesh
) -> list[Batch]:
  """A split on the devices in batches, every example once.

  The last batch is as short as it has to be, rather than padded: per-batch
  statistics stay exact. A batch size that divides the split compiles once.

  Args:
    images: uint8 ``[n, h, w, c]``.
    labels: int32 ``[n]``.
    batch_size: at least 1.
    mesh: a batch is split over its devices if they divide it.
  """

  def put(array: np.ndarray) -> jax.Array:
    return place(array, over_batches(mesh, axis=0, size=len(array)))

  return [
    {
      "images": put(images[start : start + batch_size]),
      "labels": put(labels[start : start + batch_size]),
    }
    for start in range(0, len(labels), batch_size)
  ]


def evaluate(
  eval_step: EvalStep,
  state: TrainState,
  batches: Sequence[Batch],
  keep_ratio: ArrayLike,
  check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
  """Means over all examples of ``batches``.

  Args:
    eval_step: of :func:`sparse_regimes.make_eval_step`.
    state: a state or variables.
    batches: of :func:`make_batches`.
    keep_ratio: real scalar, or one for each site.
    check: called between batches; may raise to give up.

  Returns:
    ``loss`` (nats), ``accuracy`` and ``nonzero`` (fractions; nonzero is the
    mean over sites), and ``sites``: the list of nonzero fractions at each.
  """
  sums: list[Any] = []
  for batch in batches:
    sums.append(eval_step(state, batch, keep_ratio))
    # A result is waited for when the next but one is on its way.
    if len(sums) > 2:
      sums[-3] = jax.device_get(sums[-3])
    check()
  sums = jax.device_get(sums)
  count = sum(s["count"].item() for s in sums)
  # Of a dict by site, in the order of its names.
  shares = [np.hstack(jax.tree.leaves(s["nonzero"])) for s in sums]
  nonzero = np.sum(shares, axis=0, dtype=np.float64)
  sites = np.atleast_1d(nonzero / count)
  return {
    "loss": sum(float(s["loss"]) for s in sums) / count,
    "accuracy": sum(s["correct"].item() for s in sums) / count,
    "nonzero": float(np.mean(sites)),
    "sites": sites.tolist(),
  }
