"""What is measured at every step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def is_correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Whether the largest logit is the label's.

  Args:
    logits: real ``[..., num_classes]``.
    labels: integer ``[...]``, or float ``[..., num_classes]``, of which
      the largest is meant.

  Returns:
    bool ``[...]``.

  Raises:
    ValueError: for labels of another shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.training.metrics import is_correct
    >>> is_correct(jnp.array([[0.0, 2.0], [3.0, 1.0]]), jnp.array([1, 1]))
    Array([ True, False], dtype=bool)
  """
  check_labels(logits, labels)
  if labels.ndim == logits.ndim:
    labels = jnp.argmax(labels, axis=-1)
  return jnp.argmax(logits, axis=-1) == labels


def check_labels(
  logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None
) -> None:
  """Raises a ``ValueError`` for what would be broadcast, and so be wrong.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.training.metrics import check_labels
    >>> check_labels(jnp.zeros((2, 3)), jnp.zeros((2, 1), jnp.int32))
    Traceback (most recent call last):
    ...
    ValueError: labels must be integers (2,) or probabilities (2, 3), as the \
logits are (2, 3), of two classes or more; got int32 (2, 1)
  """
  shape = logits.shape[:-1]
  is_whole = jnp.issubdtype(labels.dtype, jnp.integer)
  expected = shape if is_whole else logits.shape
  if labels.shape != expected or logits.shape[-1] < 2:
    raise ValueError(
      f"labels must be integers {shape} or probabilities {logits.shape}, as the"
      f" logits are {logits.shape}, of two classes or more; got {labels.dtype}"
      f" {labels.shape}"
    )
  if mask is not None and mask.shape != shape:
    raise ValueError(
      f"mask must have the shape of the labels, {shape}, got {mask.shape}"
    )


class CalibrationSums(NamedTuple):
  """Predictions by confidence, in bins, to be added up over batches.

  Attributes:
    predictions: how many, float32 ``[bins]``.
    confidence: the sum of their largest probabilities, float32 ``[bins]``.
    correct: how many are right, float32 ``[bins]``.
  """

  predictions: jax.Array
  confidence: jax.Array
  correct: jax.Array


def calibration_sums(
  logits: jax.Array, labels: jax.Array, *, num_bins: int = 15
) -> CalibrationSums:
  """Sorts predictions into bins of equal width by their confidence.

  Args:
    logits: real ``[b, num_classes]``.
    labels: integer ``[b]``.
    num_bins: bins over ``[0, 1]``.
  """
  probabilities = jax.nn.softmax(logits.astype(jnp.float32))
  confidence = jnp.max(probabilities, axis=-1)
  bins = jnp.clip((confidence * num_bins).astype(jnp.int32), 0, num_bins - 1)
  in_bin = jax.nn.one_hot(bins, num_bins, dtype=jnp.float32)
  correct = is_correct(logits, labels).astype(jnp.float32)
  return CalibrationSums(
    predictions=jnp.sum(in_bin, axis=0),
    confidence=jnp.sum(in_bin * confidence[:, None], axis=0),
    correct=jnp.sum(in_bin * correct[:, None], axis=0),
  )


def calibration_error(sums: CalibrationSums) -> float:
  r"""The expected calibration error of the predictions counted in ``sums``.

  .. math:: \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.training.metrics import calibration_error
    >>> from sparse_regimes.training.metrics import calibration_sums
    >>> logits = jnp.array([[100.0, 0.0], [100.0, 0.0]])
    >>> calibration_error(calibration_sums(logits, jnp.array([0, 1])))
    0.5

  Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
  """
  gap = jnp.abs(sums.correct - sums.confidence)
  return float(jnp.sum(gap) / jnp.sum(sums.predictions))
