"""Loss, accuracy and sparsity over a whole split, at any keep ratio."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from sparse_regimes import factory
from sparse_regimes.checkpoint import check_checkpoint, restore
from sparse_regimes.data.dataset import normalize
from sparse_regimes.state import TrainState
from sparse_regimes.step import Batch, EvalStep, make_eval_step


def make_batches(
  images: np.ndarray, labels: np.ndarray, batch_size: int
) -> list[Batch]:
  """A split on the device in batches, every example once.

  The last batch is as short as it has to be, rather than padded: per-batch
  statistics stay exact. A batch size that divides the split compiles once.

  Args:
    images: uint8 ``[n, h, w, c]``.
    labels: int32 ``[n]``.
    batch_size: at least 1.
  """
  return [
    jax.device_put(
      {
        "images": images[start : start + batch_size],
        "labels": labels[start : start + batch_size],
      }
    )
    for start in range(0, len(labels), batch_size)
  ]


def evaluate(
  eval_step: EvalStep,
  state: TrainState,
  batches: Sequence[Batch],
  keep_ratio: ArrayLike,
) -> dict[str, float]:
  """Means over all examples of ``batches``.

  Args:
    eval_step: of :func:`sparse_regimes.make_eval_step`.
    state: its variables are evaluated.
    batches: of :func:`make_batches`.
    keep_ratio: real scalar.

  Returns:
    ``loss`` (nats), ``accuracy`` and ``nonzero`` (fractions; nonzero is the
    mean over sites).
  """
  # All batches are dispatched before the first result is waited for.
  sums = jax.device_get(
    [eval_step(state, batch, keep_ratio) for batch in batches]
  )
  count = sum(int(s["count"]) for s in sums)
  nonzero = np.sum([s["nonzero"] for s in sums], axis=0, dtype=np.float64)
  return {
    "loss": sum(float(s["loss"]) for s in sums) / count,
    "accuracy": sum(int(s["correct"]) for s in sums) / count,
    "nonzero": float(np.mean(nonzero)) / count,
  }


def evaluate_run(
  config: ConfigDict,
  workdir: Path,
  keep_ratios: Sequence[float],
  which: str,
) -> str:
  """Evaluates a run's checkpoint at several keep ratios, in one compilation.

  Args:
    config: of the run.
    workdir: the run's folder.
    keep_ratios: each in ``[0, 1]``.
    which: ``best`` or ``last``.

  Returns:
    A table, a row a ratio.

  Raises:
    InputError: if the run has no such checkpoint, or the data is not to be had.
  """
  check_checkpoint(workdir, which)
  data = factory.make_data(config, print)
  parts = factory.make_parts(
    config, num_classes=data.num_classes, steps_per_epoch=1
  )
  template = jax.eval_shape(
    lambda: factory.make_state(config, parts, data.test_images.shape[1:])
  )
  epoch, state = restore(workdir, which, template)
  batches = make_batches(
    data.test_images, data.test_labels, config.eval.batch_size
  )
  eval_step = make_eval_step(parts.model.apply, preprocess=normalize)
  lines = [
    f"{workdir}, {which} checkpoint (epoch {epoch}),"
    f" {len(data.test_labels):,} test images of {config.data.name}",
    "keep ratio  accuracy    loss  nonzero",
  ]
  for keep_ratio in keep_ratios:
    result = evaluate(eval_step, state, batches, keep_ratio)
    lines.append(
      f"{keep_ratio:>10g}  {result['accuracy']:>8.4f}  {result['loss']:>6.4f}"
      f"  {result['nonzero']:>7.4f}"
    )
  return "\n".join(lines)
