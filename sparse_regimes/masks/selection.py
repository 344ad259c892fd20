"""Which activations survive: exact top-k with a traced keep ratio."""

import functools
import math
import operator
from typing import Any

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
from sparse_regimes.masks.kernels import pallas_gpu
from sparse_regimes.masks.kernels.pallas_tpu import (
  MAX_BLOCK_BYTES,
  fits_kernel,
  pallas_tpu_mask,
)
from sparse_regimes.masks.kernels.reference import lax_top_k_mask
from sparse_regimes.masks.kernels.sharding import search_rows
from sparse_regimes.masks.kernels.threshold import (
  threshold_mask,
  threshold_mask_but_for_zeros,
)

IMPLEMENTATIONS = ("lax_top_k", "xla", "pallas_tpu", "pallas_gpu")
SCOPES = ("global", "channel")
SCORES = ("value", "magnitude")
Axis = int | tuple[int, ...]


def num_kept(size: int, keep_ratio: ArrayLike) -> jax.Array:
  r"""How many of ``size`` entries a keep ratio leaves.

  .. math:: k = \max(1, \lfloor size \cdot r \rfloor)
     \text{ if } r < 1 \text{ else } size

  Ratio and product are rounded to float32 whether the ratio is traced or not,
  so that a compiled and an uncompiled call agree: 100 * 0.57 gives 57, where
  Python's floats give 56.99999999999999.

  Args:
    size: entries that share the budget; static, below 2**31.
    keep_ratio: real scalar, Python or traced; at most 0 keeps one entry.

  Returns:
    int32 scalar.

  Example:
    >>> num_kept(65536, 0.2)
    Array(13107, dtype=int32)

  Source: Wang, "Joint Training Across Multiple Activation Sparsity Regimes",
    arXiv 2603.03131, and its released program.
  """
  size = operator.index(size)
  keep_ratio = _as_ratio(keep_ratio)
  kept = jnp.floor(jnp.float32(size) * keep_ratio).astype(jnp.int32)
  # From 2**24 on a float32 product may round to above the size.
  kept = jnp.clip(kept, min(1, size), size)
  return jnp.where(keep_ratio >= 1, jnp.int32(size), kept)


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
      (a threshold search by counting), ``"pallas_tpu"`` (the same on chip; for
      floats; interpreted, slowly, on other platforms), ``"pallas_gpu"`` (on a
      Hopper GPU alone), or None: the fastest here.

  Returns:
    bool, the shape of ``scores``.

  Raises:
    ValueError: for axes that the array does not have, a ratio that is no
      scalar, scores that are not real, an unknown implementation.

  Example:
    >>> topk_mask(jnp.array([3.0, 1.0, 2.0, 2.0]), 0.5, axis=0)
    Array([ True, False,  True, False], dtype=bool)

  Source: ours; the set is that of the program of arXiv 2603.03131.
  """
  scores = jnp.asarray(scores)
  if axis is None and scope is None:
    raise ValueError("axis must name the axes that share a budget, got None")
  axes = budget_axes(scores, axis, scope)
  how = _choose(implementation, scores, axes)
  return _mask(scores, _as_ratio(keep_ratio), axes, how)


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
  the result is ``x``, bit for bit, and no selection work runs.

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
    >>> sparsify(jnp.array([[-3.0, 1.0, 2.0, 0.5]]), 0.5, score="magnitude")
    Array([[-3.,  0.,  2.,  0.]], dtype=float32)

  Source: Wang, arXiv 2603.03131.
  """
  return _sparsify(x, keep_ratio, axis, scope, score, implementation)


def sparse_activation(
  x: jax.Array,
  keep_ratio: ArrayLike,
  *,
  activation: str | Activation = "relu",
  scope: str = "global",
  score: str = "value",
  axis: Axis | None = None,
  implementation: str | None = None,
) -> jax.Array:
  r"""An activation of which only the top k entries survive.

  .. math:: y = \sigma(x) \odot M, \quad
     M = \mathrm{topk\_mask}(\sigma(x) \text{ or } |\sigma(x)|, r)

  What shares a budget competes. With the scope ``global`` all positions of an
  example do, so that in a causal model a later token decides which earlier
  activations survive: it leaks the future. A causal model wants the scope
  ``channel``, or ``axis=-1``.

  Args:
    x: pre-activations, real ``[b, ...]``, or ``[d]`` for one example.
    keep_ratio: real scalar, Python or traced; at 1 or more the result is the
      dense activation, bit for bit.
    activation: ``relu``, ``leakyrelu`` (slope 0.1), ``elu``, ``gelu`` (exact),
      ``silu``, ``softplus``, ``identity``, ``jsrelu``, ``jsrelu_linear``,
      ``s_relu``, ``s_jsrelu``, or a pointwise function.
    scope: ``global`` (per example) or ``channel`` (per position, last axis).
    score: rank by ``value`` or ``magnitude``; what is kept is always the
      activation itself. An activation whose negative values matter as much
      (``tanh``, ``identity``) wants ``magnitude``: by value all of them go
      first.
    axis: the axis or axes that share one budget, instead of ``scope``.
    implementation: as in :func:`topk_mask`.

  Returns:
    The shape and dtype of ``x``.

  Raises:
    ValueError: for an unknown name; the message lists the choices.

  Example:
    >>> sparse_activation(jnp.array([[-1.0, 3.0, 1.0, 2.0]]), 0.5)
    Array([[0., 3., 0., 2.]], dtype=float32)

  Source: Wang, arXiv 2603.03131.
  """
  x = jnp.asarray(x)
  if activation == "relu":
    one_of("score", score, SCORES)
    axes = budget_axes(x, axis, scope)
    how = _choose(implementation, x, axes)
    return _sparse_relu(x, _as_ratio(keep_ratio), axes, how)
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
  how = _choose(implementation, x, axes)
  scores = jnp.abs(x) if score == "magnitude" else x
  mask = _mask(
    scores,
    *(_as_ratio(keep_ratio), axes, how),
    break_zero_ties=break_zero_ties,
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


@functools.partial(
  jax.jit, static_argnames=("axes", "how", "break_zero_ties"), inline=True
)
def _mask(
  scores: jax.Array,
  keep_ratio: jax.Array,
  axes: tuple[int, ...],
  how: str,
  *,
  break_zero_ties: bool = True,
) -> jax.Array:
  scores = lax.stop_gradient(scores)
  if scores.dtype == jnp.float8_e8m0fnu:
    # It has no sign, so its bits sort as they are.
    scores = lax.bitcast_convert_type(scores, jnp.uint8)
  if scores.size == 0:
    return jnp.zeros(scores.shape, bool)
  kept = num_kept(math.prod(scores.shape[a] for a in axes), keep_ratio)
  if how == "pallas_tpu":
    # The kernel sees by itself that nothing is to be found. A conditional would
    # keep XLA from fusing the mask into the convolutions around it.
    return search_rows(pallas_tpu_mask, scores, kept, axes=axes)
  if how == "pallas_gpu":
    # A conditional would copy its condition to the host, and wait.
    search = pallas_gpu.pallas_gpu_mask
    if not break_zero_ties:
      search = pallas_gpu.pallas_gpu_mask_but_for_zeros
    return search_rows(search, scores, kept, axes=axes)
  search = lax_top_k_mask
  if how == "xla":
    search = threshold_mask if break_zero_ties else threshold_mask_but_for_zeros
  return search_rows(search, scores, kept, axes=axes, keep_all=keep_ratio >= 1)


def _choose(
  implementation: str | None, scores: jax.Array, axes: tuple[int, ...]
) -> str:
  """The implementation asked for, or the fastest for platform and row."""
  one_of("implementation", implementation, (None, *IMPLEMENTATIONS))
  size = math.prod(scores.shape[a] for a in axes)
  fits_tpu = fits_kernel(size, scores.dtype)
  why_no_gpu = pallas_gpu.why_not(size, scores.dtype)
  if implementation is None and not why_no_gpu:
    return "pallas_gpu"
  if implementation == "pallas_gpu" and why_no_gpu:
    raise ValueError(
      f"implementation pallas_gpu needs {why_no_gpu}; xla and lax_top_k run"
      " anywhere, None takes the fastest"
    )
  if implementation is None:
    on_tpu = jax.default_backend() == "tpu"
    # XLA cannot split a kernel over chips by itself; see search_rows.
    is_told = jax.device_count() == 1 or not (
      jax.sharding.get_abstract_mesh().empty
    )
    return "pallas_tpu" if on_tpu and is_told and fits_tpu else "xla"
  if implementation == "pallas_tpu" and not fits_tpu:
    raise ValueError(
      "implementation pallas_tpu takes rows of float32, bfloat16 or float16 up"
      f" to {MAX_BLOCK_BYTES // 128} bytes, got {size} of {scores.dtype}"
    )
  return implementation


def budget_axes(
  x: jax.Array, axis: Axis | None, scope: str | None
) -> tuple[int, ...]:
  """The axes of ``x`` that share a budget, sorted and non-negative.

  Raises:
    ValueError: for a scope or an axis that there is not.
  """
  if axis is not None:
    if scope not in (None, "global"):
      raise ValueError(
        f"axis and scope say the same: give one, got axis {axis} and scope"
        f" {scope!r}"
      )
    return _canonical_axes(axis, x)
  check_scope(scope)
  if x.ndim == 0:
    raise ValueError("x must have at least one axis, got a scalar")
  if scope == "channel" or x.ndim == 1:
    return (x.ndim - 1,)
  return tuple(range(1, x.ndim))


def check_scope(scope: Any) -> None:
  """Raises a ``ValueError`` for what is no scope."""
  if scope is not None and not isinstance(scope, str):
    raise ValueError(
      "scope must be one of global, channel, got a"
      f" {type(scope).__name__}: Linen keeps the attribute `scope` of a module"
      " for itself, so call the field of yours `budget_scope`"
    )
  one_of("scope", scope, SCOPES)


def _as_ratio(keep_ratio: ArrayLike) -> jax.Array:
  ratio = jnp.asarray(keep_ratio, jnp.float32)
  if ratio.ndim:
    raise ValueError(
      f"keep_ratio must be a scalar at each site, got shape {ratio.shape}:"
      " sparse_regimes.at_site(keep_ratio, i) takes a site's entry, jax.vmap"
      " gives one to each example"
    )
  return ratio


def _canonical_axes(axis: Axis, scores: jax.Array) -> tuple[int, ...]:
  axes = tuple(map(operator.index, axis if isinstance(axis, tuple) else [axis]))
  canonical = sorted({a % scores.ndim for a in axes if scores.ndim})
  inside = all(-scores.ndim <= a < scores.ndim for a in axes)
  if not axes or not inside or len(canonical) < len(axes):
    raise ValueError(
      f"axis must name distinct axes of shape {scores.shape}, got {axis}"
    )
  if not jnp.issubdtype(scores.dtype, jnp.integer) and not jnp.issubdtype(
    scores.dtype, jnp.floating
  ):
    raise ValueError(f"scores must be real numbers, got {scores.dtype}")
  return tuple(canonical)
