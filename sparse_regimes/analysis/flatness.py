"""How flat a minimum is, in a layer and in all parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sparse_regimes.errors import in_range

LossFn = Callable[[Any], jax.Array]


def augmented_flatness(x: jax.Array, output_gradient: jax.Array) -> jax.Array:
  r"""What perturbing each weight of a linear alone does to the loss.

  .. math:: \mathrm{AF} = \mathrm{mean}_b \sum_t
     \lVert \partial L / \partial y_{bt} \rVert^2 \lVert x_{bt} \rVert^2

  Args:
    x: input of the linear, ``[b, ..., d]``; the axes between are tokens.
    output_gradient: of each example's own loss with respect to its output,
      ``[b, ..., n]``.

  Returns:
    float32 scalar.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import augmented_flatness
    >>> augmented_flatness(jnp.ones((1, 2, 3)), jnp.ones((1, 2, 4)))
    Array(24., dtype=float32)

  Source: Peng et al., arXiv 2309.03004.
  """
  token = _square(output_gradient) * _square(x)
  return jnp.sum(token) / x.shape[0]


def l0_coefficient(
  x: jax.Array, hidden: jax.Array, hidden_gradient: jax.Array
) -> jax.Array:
  r"""The weight of sparsity in a ReLU layer's augmented flatness.

  .. math:: c = \frac{\mathrm{mean}[g^2\, 1(A > 0)\, \lVert x \rVert^2]}
     {\mathrm{mean}[1(A > 0)]}, \qquad
     \mathrm{mean}[1(A > 0)] = \frac{\mathrm{AF}_K}{T\, n\, c}

  The second equation is exact for ReLU.

  Args:
    x: input of the first linear, ``[b, ..., d]``.
    hidden: A, ``[b, ..., n]``.
    hidden_gradient: g, with respect to A, ``[b, ..., n]``.

  Returns:
    float32 scalar; NaN if nothing is active.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import l0_coefficient
    >>> hidden = jnp.array([[[0.0, 2.0]]])
    >>> l0_coefficient(jnp.ones((1, 1, 3)), hidden, jnp.full((1, 1, 2), 2.0))
    Array(12., dtype=float32)

  Source: Peng et al., arXiv 2309.03004.
  """
  active = hidden > 0
  g = jnp.where(active, hidden_gradient.astype(jnp.float32), 0.0)
  weighted = jnp.sum(jnp.square(g) * _square(x)[..., None])
  return weighted / jnp.count_nonzero(active).astype(jnp.float32)


def hessian_sample(loss: LossFn, params: Any, rng: jax.Array) -> jax.Array:
  r"""One sample of Hutchinson's estimate: :math:`v^T H v` with random signs.

  Args:
    loss: of the parameters, a scalar.
    params: a pytree of float arrays.
    rng: a key, of the signs.

  Returns:
    A scalar whose mean over keys is the trace of the Hessian.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import hessian_sample
    >>> loss = lambda w: jnp.sum(jnp.array([1.0, 2.0]) * w**2)
    >>> print(hessian_sample(loss, jnp.ones(2), jax.random.key(0)))
    6.0

  Source: Hutchinson, Communications in Statistics 18 (1989).
  """
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(rng, len(leaves))
  signs = [
    jax.random.rademacher(k, leaf.shape, leaf.dtype)
    for k, leaf in zip(keys, leaves, strict=True)
  ]
  v = jax.tree.unflatten(tree, signs)
  _, product = jax.jvp(jax.grad(loss), (params,), (v,))
  return _dot(v, product)


def hessian_trace(
  loss: LossFn, params: Any, rng: jax.Array, *, num_samples: int = 16
) -> tuple[jax.Array, jax.Array]:
  r"""Hutchinson's estimate of the trace of the Hessian.

  .. math:: \mathrm{tr} H \approx \mathrm{mean}_i\, v_i^T H v_i, \qquad
     v_i \in \{-1, 1\}^n

  It is compiled for one sample, and called for each: a convolution inside a
  compiled loop is an order of magnitude slower on CPU.

  Args:
    loss: of the parameters, a scalar.
    params: a pytree of float arrays.
    rng: a key.
    num_samples: Hessian-vector products, one after another, at least 1.

  Returns:
    The estimate and its standard error (NaN for one sample).

  Raises:
    ValueError: for no samples.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import hessian_trace
    >>> trace, error = hessian_trace(
    ...   lambda w: jnp.sum(jnp.array([1.0, 2.0]) * w**2), jnp.ones(2),
    ...   jax.random.key(0),
    ... )
    >>> print(trace, error)
    6.0 0.0

  Source: Hutchinson, Communications in Statistics 18 (1989).
  """
  in_range("num_samples", num_samples, 1)
  sample = jax.jit(lambda params, key: hessian_sample(loss, params, key))
  return mean_and_error(
    [sample(params, key) for key in jax.random.split(rng, num_samples)]
  )


def mean_and_error(samples: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
  """The mean and its standard error (NaN for one sample).

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import mean_and_error
    >>> mean, error = mean_and_error([jnp.float32(1), jnp.float32(3)])
    >>> print(f"{mean:.1f} {error:.1f}")
    2.0 1.0
  """
  values = jnp.stack(samples)
  error = jnp.std(values, ddof=1) / jnp.sqrt(len(samples))
  return jnp.mean(values), error


def sharpness(loss: LossFn, params: Any, *, radius: float = 0.05) -> jax.Array:
  r"""The rise of the loss one step up its gradient, as in SAM.

  .. math:: L(w + \rho\, \nabla L / \lVert \nabla L \rVert_2) - L(w)

  Args:
    loss: of the parameters, a scalar.
    params: a pytree of float arrays.
    radius: :math:`\rho`, at least 0.

  Returns:
    A scalar; 0 where the gradient is.

  Raises:
    ValueError: for a negative radius.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import sharpness
    >>> rise = sharpness(lambda w: w @ w, jnp.array([3.0, 4.0]), radius=1.0)
    >>> print(f"{rise:.0f}")
    11

  Source: Foret et al., arXiv 2010.01412.
  """
  in_range("radius", radius, 0)
  value, gradient = jax.value_and_grad(loss)(params)
  norm = jnp.sqrt(_dot(gradient, gradient))
  step = jnp.where(norm > 0, radius / jnp.where(norm > 0, norm, 1.0), 0.0)
  moved = jax.tree.map(lambda p, g: p + step * g, params, gradient)
  return loss(moved) - value


def _square(x: jax.Array) -> jax.Array:
  return jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1)


def _dot(a: Any, b: Any) -> jax.Array:
  products = jax.tree.map(jnp.vdot, a, b)
  return jnp.sum(jnp.stack(jax.tree.leaves(products)))
