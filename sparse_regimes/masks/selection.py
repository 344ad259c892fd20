"""Which activations survive: exact top-k with a traced keep ratio."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from sparse_regimes.errors import one_of
from sparse_regimes.masks.activations import (
  Activation,
  flat_part,
  get_activation,
)
from sparse_regimes.masks.budget import Axis, as_ratio, budget_axes, num_kept
from sparse_regimes.masks.kernels import pallas_gpu
from sparse_regimes.masks.kernels.choice import choose
from sparse_regimes.masks.kernels.fixed_passes import fixed_passes_mask
from sparse_regimes.masks.kernels.pallas_tpu import pallas_tpu_mask
from sparse_regimes.masks.kernels.reference import lax_top_k_mask
from sparse_regimes.masks.kernels.sharding import search_rows
from sparse_regimes.masks.kernels.threshold import (
  threshold_mask,
  threshold_mask_but_for_zeros,
)

SCORES = ("value", "magnitude")
# Of so few entries a pass costs less than asking whether it is the last one.
_FEW = 1024


def topk_mask(
  scores: jax.Array,
  keep_ratio: ArrayLike,
  *,
  axis: Axis | None = None,
  scope: str | None = None,
  implementation: str | None = None,
) -> jax.Array:
  """Marks the ``num_kept`` largest scores over ``axis``.

  Exactly ``num_kept(size of axis, keep_ratio)`` entries are marked for every
  index of the other axes: the set that ``jax.lax.top_k`` picks. Larger first;
  among equals the lower row-major index first. The order is IEEE 754's total
  one: +NaN above +inf, +0 above -0, -NaN below -inf.

  One compilation serves all ratios. Nothing is differentiable here.

  Args:
    scores: array of rank 1 or more; integers or floats of 8 bits or more.
    keep_ratio: real scalar, Python or traced.
    axis: the axis or axes that share one budget.
    scope: instead of axes, as in :func:`sparse_activation`.
    implementation: ``"lax_top_k"`` (the reference: a full sort), ``"xla"``
      (a threshold search by counting), ``"xla_fixed"`` (the same in a number of
      passes that is known before, which asks no host), ``"pallas_tpu"`` (on
      chip; for floats; interpreted, slowly, on other platforms),
      ``"pallas_gpu"`` (on a Hopper GPU alone), or None: the fastest here.

  Returns:
    bool, the shape of ``scores``.

  Raises:
    ValueError: for axes that the array does not have, a ratio that is no
      scalar, scores that are not real, an unknown implementation.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import topk_mask
    >>> topk_mask(jnp.array([3.0, 1.0, 2.0, 2.0]), 0.5, axis=0)
    Array([ True, False,  True, False], dtype=bool)

  Source: ours; the set is that of the program of arXiv 2603.03131.
  """
  scores = jnp.asarray(scores)
  if axis is None and scope is None:
    raise ValueError("axis must name the axes that share a budget, got None")
  axes = budget_axes(scores, axis, scope)
  how = choose(implementation, _size(scores, axes), scores.dtype)
  return _mask(scores, as_ratio(keep_ratio), axes, how)


def sparsify(
  x: jax.Array,
  keep_ratio: ArrayLike,
  *,
  scope: str = "global",
  score: str = "value",
  axis: Axis | None = None,
  implementation: str | None = None,
) -> jax.Array:
  r"""Keeps the entries with the largest scores and zeroes the others.

  .. math:: y_i = x_i \cdot 1[i \in \mathrm{top}_k(s)], \quad
     s = x \text{ or } |x|

  The gradient passes through the kept entries only. At a ratio of 1 or more
  the result is ``x``, bit for bit; except on GPUs no selection work runs.

  Args:
    x: real ``[b, ...]``, or ``[d]`` for one example. With scope ``channel`` the
      last axis is the channel axis (NHWC).
    keep_ratio: real scalar, Python or traced.
    scope: ``global``: one budget per example over all of its other axes;
      ``channel``: one per position over the last axis.
    score: rank by ``value`` or by ``magnitude``.
    axis: the axis or axes that share one budget, instead of ``scope``.
    implementation: as in :func:`topk_mask`.

  Returns:
    The shape and dtype of ``x``.

  Raises:
    ValueError: for an unknown scope, score or implementation, or a scalar x.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import sparsify
    >>> sparsify(jnp.array([[-3.0, 1.0, 2.0, 0.5]]), 0.5, score="magnitude")
    Array([[-3.,  0.,  2.,  0.]], dtype=float32)

  Source: Wang, arXiv 2603.03131.
  """
  return _sparsify(x, keep_ratio, axis, scope, score, implementation)


def topk_activation(
  x: jax.Array,
  keep_ratio: ArrayLike,
  activation: str | Activation,
  scope: str,
  score: str,
  axis: Axis | None,
  implementation: str | None,
) -> jax.Array:
  """See :func:`sparse_regimes.sparse_activation`, of the mask ``topk``."""
  if activation == "relu":
    one_of("score", score, SCORES)
    axes = budget_axes(x, axis, scope)
    how = choose(implementation, _size(x, axes), x.dtype)
    if how == "pallas_gpu":
      return _written_by_kernel(
        jax.nn.relu(x), as_ratio(keep_ratio), axes, False
      )
    return _sparse_relu(x, as_ratio(keep_ratio), axes, how)
  # Zeros of a flat part need no order: kept or not, their derivative is 0.
  return _sparsify(
    get_activation(activation)(x),
    *(keep_ratio, axis, scope, score, implementation),
    break_zero_ties=flat_part(activation) is None,
  )


def _sparsify(
  x: jax.Array,
  keep_ratio: ArrayLike,
  axis: Axis | None,
  scope: str,
  score: str,
  implementation: str | None,
  *,
  break_zero_ties: bool = True,
) -> jax.Array:
  x = jnp.asarray(x)
  axes = budget_axes(x, axis, scope)
  one_of("score", score, SCORES)
  how = choose(implementation, _size(x, axes), x.dtype)
  if how == "pallas_gpu" and score == "value":
    ratio = as_ratio(keep_ratio)
    return _written_by_kernel(x, ratio, axes, break_zero_ties)
  mask = _mask(
    x,
    *(as_ratio(keep_ratio), axes, how),
    break_zero_ties=break_zero_ties,
    by_magnitude=score == "magnitude",
  )
  return jnp.where(mask, x, jnp.zeros((), x.dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _sparse_relu(
  x: jax.Array, keep_ratio: jax.Array, axes: tuple[int, ...], how: str
) -> jax.Array:
  """ReLU, with a derivative that keeps no more than it needs."""
  return _sparse_relu_and_mask(x, keep_ratio, axes, how)[0]


@_sparse_relu.defjvp
def _sparse_relu_jvp(axes, how, primals, tangents):
  x, keep_ratio = primals
  y, mask = _sparse_relu_and_mask(x, keep_ratio, axes, how)
  # Not y > 0: that would hold y until the backward pass, beside x and the mask.
  passes = mask & (x > 0)
  return y, jnp.where(passes, tangents[0], jnp.zeros((), y.dtype))


def _sparse_relu_and_mask(
  x: jax.Array, keep_ratio: jax.Array, axes: tuple[int, ...], how: str
) -> tuple[jax.Array, jax.Array]:
  y = jax.nn.relu(x)
  mask = _mask(y, keep_ratio, axes, how, break_zero_ties=False)
  return jnp.where(mask, y, jnp.zeros((), y.dtype)), mask


def _written_by_kernel(
  x: jax.Array,
  keep_ratio: jax.Array,
  axes: tuple[int, ...],
  break_zero_ties: bool,
) -> jax.Array:
  """What is kept of x, for platforms whose kernel writes it itself."""
  return _kept_and_ends(x, keep_ratio, axes, break_zero_ties)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _kept_and_ends(
  x: jax.Array,
  keep_ratio: jax.Array,
  axes: tuple[int, ...],
  break_zero_ties: bool,
) -> tuple[jax.Array, ...]:
  """What is kept, and the ends as bits of floats, whose derivatives are zero.

  Integers would want tangents of a type that shard_map cannot tell of.
  """
  if x.size == 0:
    lead = tuple(n for a, n in enumerate(x.shape) if a not in axes)
    ends = jnp.zeros(lead, jnp.float32)
    return x, ends, ends
  search = pallas_gpu.pallas_gpu_kept
  if not break_zero_ties:
    search = pallas_gpu.pallas_gpu_kept_but_for_zeros
  count = num_kept(_size(x, axes), keep_ratio)
  kept, *ends = search_rows(search, x, count, axes=axes, num_ends=2)
  return kept, *(lax.bitcast_convert_type(end, jnp.float32) for end in ends)


@_kept_and_ends.defjvp
def _kept_and_ends_jvp(axes, break_zero_ties, primals, tangents):
  x, keep_ratio = primals
  # By itself again, so that it has a second derivative, too.
  kept, *ends = _kept_and_ends(x, keep_ratio, axes, break_zero_ties)
  # Two numbers a row are all that the backward pass needs beside x.
  at_end = tuple(range(x.ndim - len(axes), x.ndim))
  bits = (lax.bitcast_convert_type(end, jnp.int32) for end in ends)
  mask = pallas_gpu.mask_up_to(jnp.moveaxis(x, axes, at_end), *bits)
  mask = jnp.moveaxis(mask, at_end, axes)
  moved = jnp.where(mask, tangents[0], jnp.zeros((), x.dtype))
  return (kept, *ends), (moved, *map(jnp.zeros_like, ends))


@functools.partial(
  jax.jit,
  static_argnames=("axes", "how", "break_zero_ties", "by_magnitude"),
  inline=True,
)
def _mask(
  scores: jax.Array,
  keep_ratio: jax.Array,
  axes: tuple[int, ...],
  how: str,
  *,
  break_zero_ties: bool = True,
  by_magnitude: bool = False,
) -> jax.Array:
  scores = lax.stop_gradient(scores)
  if scores.dtype == jnp.float8_e8m0fnu:
    # It has no sign, so its bits sort as they are.
    scores = lax.bitcast_convert_type(scores, jnp.uint8)
  if scores.size == 0:
    return jnp.zeros(scores.shape, bool)
  kept = num_kept(_size(scores, axes), keep_ratio)
  over = functools.partial(
    search_rows,
    scores=scores,
    num_kept=kept,
    axes=axes,
    by_magnitude=by_magnitude,
  )
  if how == "pallas_tpu":
    # The kernel sees by itself that nothing is to be found. A conditional would
    # keep XLA from fusing the mask into the convolutions around it.
    return over(pallas_tpu_mask)
  if how == "pallas_gpu":
    # A conditional would copy its condition to the host, and wait.
    search = pallas_gpu.pallas_gpu_mask
    if not break_zero_ties:
      search = pallas_gpu.pallas_gpu_mask_but_for_zeros
    return over(search)
  if how == "xla_fixed":
    return over(fixed_passes_mask)
  search = lax_top_k_mask
  if how == "xla":
    search = threshold_mask if break_zero_ties else threshold_mask_but_for_zeros
    if scores.size <= _FEW:
      search = fixed_passes_mask
  return over(search, keep_all=keep_ratio >= 1)


def _size(x: jax.Array, axes: tuple[int, ...]) -> int:
  return math.prod(x.shape[a] for a in axes)
