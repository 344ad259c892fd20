"""What is measured at every step."""

from collections.abc import Sequence
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


def nonzero_fraction(x: jax.Array) -> jax.Array:
  """The share of entries that are not zero.

  Counted in integers: a float32 sum of ones stops growing at 2**24.

  Args:
    x: any shape with at least one entry.

  Returns:
    float32 scalar in ``[0, 1]``.

  Example:
    >>> nonzero_fraction(jnp.array([0.0, 1.0, 2.0, 0.0]))
    Array(0.5, dtype=float32)
  """
  return jnp.count_nonzero(x).astype(jnp.float32) / x.size


# Multiply-adds of a forward pass, for each image: all, and those that read each
# site, by its name, from input to output.
Arithmetic = tuple[int, dict[str, int]]


def skippable_share(arithmetic: Arithmetic, nonzero: Sequence[float]) -> float:
  """The share of a forward pass that multiplies by an activation of 0.

  What a kernel could skip that knows where the zeros are: an upper bound for
  its gain. A mask alone skips nothing.

  Args:
    arithmetic: of the network.
    nonzero: the fraction of nonzero activations at each site.

  Example:
    >>> skippable_share((100, {"a": 40, "b": 40}), [0.5, 0.25])
    0.5
  """
  total, by_site = arithmetic
  sites = zip(by_site.values(), nonzero, strict=True)
  return sum(size * (1 - share) for size, share in sites) / total


class SiteSums(NamedTuple):
  """What a mask does at one site, to be added up over batches.

  Attributes:
    threshold: over examples, the sum of the lowest score of what is kept and
      not zero (0 if nothing is), float32 scalar.
    kept: the sum of the kept magnitudes, float32 scalar.
    total: the sum of all magnitudes before the mask, float32 scalar.
    active: which channels (the last axis) have a nonzero entry anywhere, bool
      ``[c]``; the others are dead.
  """

  threshold: jax.Array
  kept: jax.Array
  total: jax.Array
  active: jax.Array


def site_sums(
  dense: jax.Array, sparse: jax.Array, *, score: str = "value"
) -> SiteSums:
  """Measures a mask.

  Args:
    dense: activations before the mask, ``[b, ..., c]``.
    sparse: the same after it.
    score: what it ranks by, ``value`` or ``magnitude``.

  Example:
    >>> sums = site_sums(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 3.0]]))
    >>> print(sums.threshold, sums.kept / sums.total, sums.active)
    3.0 0.75 [False  True]
  """
  sparse = sparse.astype(jnp.float32)
  size = jnp.abs(sparse)
  rows = size.reshape(-1, size.shape[-1])
  # A product, because XLA on CPU fuses several reductions of one array into a
  # loop that takes longer than all of them.
  ones = jnp.ones((1, len(rows)), jnp.float32)
  (by_channel,) = jnp.matmul(ones, rows, precision="highest")
  examples = tuple(range(1, size.ndim))
  scores = sparse if score == "value" else size
  lowest = jnp.min(jnp.where(size > 0, scores, jnp.inf), axis=examples)
  return SiteSums(
    threshold=jnp.sum(jnp.where(jnp.isfinite(lowest), lowest, 0.0)),
    kept=jnp.sum(by_channel),
    total=jnp.sum(jnp.abs(dense.astype(jnp.float32))),
    active=by_channel > 0,
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
    >>> logits = jnp.array([[100.0, 0.0], [100.0, 0.0]])
    >>> calibration_error(calibration_sums(logits, jnp.array([0, 1])))
    0.5

  Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
  """
  gap = jnp.abs(sums.correct - sums.confidence)
  return float(jnp.sum(gap) / jnp.sum(sums.predictions))
