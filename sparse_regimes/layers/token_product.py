"""A product whose weights learn from N of every M tokens."""

import functools
from typing import Any

import jax
from jax.typing import ArrayLike

from sparse_regimes.errors import one_of
from sparse_regimes.masks.n_m import along_tokens

OPERANDS = ("inputs", "gradient")


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def token_product(
  x: jax.Array,
  kernel: jax.Array,
  n: ArrayLike,
  m: int,
  operand: str,
  dense_share: float = 0.05,
) -> jax.Array:
  r"""A product whose weight gradient has an operand that is sparse over tokens.

  .. math:: y = xW, \quad \partial x = g W^T, \quad
     \partial W = S(x)^T g \text{ or } x^T S(g)

  with S of :func:`sparse_regimes.masks.n_m.along_tokens`. Of an MLP's first
  linear it is the gradient g, of its second one the inputs x: what the mask
  has made sparse. Matrix units that skip zeros want them along the axis that is
  summed over, which in a gradient of weights is the tokens.

  Args:
    x: ``[tokens, d]``.
    kernel: W, ``[d, features]``.
    n: tokens of a group that count, Python or traced.
    m: tokens of a group; it divides the tokens.
    operand: which one is made sparse: ``inputs`` or ``gradient``.
    dense_share: of the operand's features that stay dense.

  Returns:
    ``[tokens, features]``.

  Raises:
    ValueError: as ``along_tokens``, or for another operand.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import token_product
    >>> x, w = jnp.array([[1.0], [2.0]]), jnp.ones((1, 1))
    >>> def total(w):
    ...   return jnp.sum(token_product(x, w, 1, 2, "inputs", 0.0))
    >>> total(w), jax.grad(total)(w)
    (Array(3., dtype=float32), Array([[2.]], dtype=float32))

  Source: Haziza et al., arXiv 2503.16672.
  """
  del n, m, dense_share
  one_of("operand", operand, OPERANDS)
  return x @ kernel


def _forward(
  x: jax.Array,
  kernel: jax.Array,
  n: ArrayLike,
  m: int,
  operand: str,
  dense_share: float,
) -> tuple[jax.Array, Any]:
  return token_product(x, kernel, n, m, operand, dense_share), (x, kernel, n)


def _backward(
  m: int, operand: str, dense_share: float, saved: Any, g: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
  x, kernel, n = saved
  sparse = functools.partial(along_tokens, n=n, m=m, dense_share=dense_share)
  is_inputs = operand == "inputs"
  of_kernel = sparse(x).T @ g if is_inputs else x.T @ sparse(g)
  return g @ kernel.T, of_kernel, None


token_product.defvjp(_forward, _backward)
