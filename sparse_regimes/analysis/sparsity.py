"""How sparse activations and their gradients are."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sparse_regimes.errors import in_range

EFFECTIVE = (1e-9, 1e-6, 1e-3)


def active_fraction(hidden: jax.Array, *, above: float = 1e-6) -> jax.Array:
  r"""The share of activations that are not zero: mean :math:`1(|A| > a)`.

  Args:
    hidden: A, any shape with at least one entry.
    above: a, at least 0.

  Returns:
    float32 scalar in ``[0, 1]``; lower is sparser.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import active_fraction
    >>> active_fraction(jnp.array([0.0, 1e-9, -0.5, 2.0]))
    Array(0.5, dtype=float32)

  Source: Peng et al., arXiv 2309.03004.
  """
  in_range("above", above, 0)
  # What is not a number is not sparse.
  return _share(~(jnp.abs(hidden) <= above))


def outside_flat(pre: jax.Array, low: float, high: float) -> jax.Array:
  r"""The share of pre-activations outside the flat part of the activation.

  There, and only there, its derivative is not zero: mean
  :math:`1(\sigma'(P) \ne 0)`.

  Args:
    pre: P, any shape with at least one entry.
    low: where the flat part begins; minus infinity for ReLU.
    high: where it ends; 0 for ReLU.

  Returns:
    float32 scalar in ``[0, 1]``.

  Raises:
    ValueError: if ``low`` exceeds ``high``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import outside_flat
    >>> outside_flat(jnp.array([-2.0, -1.0, 0.0, 1.0]), -1.5, 1.5)
    Array(0.25, dtype=float32)

  Source: Peng et al., arXiv 2309.03004 (derivative sparsity).
  """
  if low > high:
    raise ValueError(f"low must be at most high, got {low} and {high}")
  return _share(~((pre >= low) & (pre <= high)))


def effective_gradient_fractions(
  eta: jax.Array, above: Sequence[float] = EFFECTIVE
) -> jax.Array:
  r"""The shares of pre-activation gradients above some sizes.

  Args:
    eta: :math:`\partial L / \partial P` of each example's own loss, any shape
      with at least one entry.
    above: sizes, each at least 0.

  Returns:
    float32 ``[len(above)]``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import effective_gradient_fractions
    >>> effective_gradient_fractions(jnp.array([0.0, 1e-7, 1e-2]))
    Array([0.6666667 , 0.33333334, 0.33333334], dtype=float32)

  Source: Peng et al., arXiv 2309.03004 (effective gradient sparsity).
  """
  for size in above:
    in_range("above", size, 0)
  return jnp.stack([_share(~(jnp.abs(eta) <= size)) for size in above])


def gradient_norms(gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
  r"""Mean :math:`\lVert \cdot \rVert_1` and :math:`\lVert \cdot \rVert_2^2`.

  Args:
    gradient: ``[..., n]``; a norm is taken of every vector of the last axis.

  Returns:
    Two float32 scalars.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import gradient_norms
    >>> l1, square = gradient_norms(jnp.array([[3.0, -4.0], [0.0, 0.0]]))
    >>> print(l1, square)
    3.5 12.5

  Source: Peng et al., arXiv 2309.03004.
  """
  gradient = gradient.astype(jnp.float32)
  l1 = jnp.sum(jnp.abs(gradient), axis=-1)
  square = jnp.sum(jnp.square(gradient), axis=-1)
  return jnp.mean(l1), jnp.mean(square)


def mean_norm(gradient: jax.Array) -> jax.Array:
  r"""Mean :math:`\lVert \cdot \rVert_2` of the vectors of the last axis.

  Args:
    gradient: ``[..., n]``.

  Returns:
    float32 scalar.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import mean_norm
    >>> print(mean_norm(jnp.array([[3.0, -4.0], [0.0, 0.0]])))
    2.5

  Source: Peng et al., arXiv 2309.03004.
  """
  square = jnp.sum(jnp.square(gradient.astype(jnp.float32)), axis=-1)
  return jnp.mean(jnp.sqrt(square))


def _share(is_counted: jax.Array) -> jax.Array:
  # In integers: a float32 sum of ones stops growing at 2**24.
  count = jnp.count_nonzero(is_counted).astype(jnp.float32)
  return count / is_counted.size
