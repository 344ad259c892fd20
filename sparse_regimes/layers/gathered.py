"""A linear layer that reads the weights of active inputs alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

# Rows that are added up at a time on CPU.
_AT_ONCE = 8
# Side of the triangle by which ranks are found.
_SIDE = 64


def gathered_product(
  x: jax.Array, kernel: jax.Array, num_gathered: int
) -> jax.Array:
  r"""``x @ kernel`` of a vector that has few nonzero entries.

  .. math:: y = \sum_{i \in S} x_i W_i, \quad S = \{i : x_i \ne 0\}

  One vector times a matrix takes as long as reading the matrix. Here the rows
  of S alone are read, so it takes their share of that. In the last bits it may
  differ from the whole product, which adds in another order.

  On CPU rows are added up one after another, as many as there are. Elsewhere
  ``num_gathered`` rows are gathered and multiplied.

  Args:
    x: ``[d]``, of which at most ``num_gathered`` entries are not zero; what is
      beyond them would be lost.
    kernel: ``[d, n]``.
    num_gathered: rows that are read; static. Padded up, few programs serve all
      budgets: :func:`padded`.

  Returns:
    ``[n]``, of the dtype of both.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import gathered_product
    >>> x = jnp.array([0.0, 2.0, 0.0, 1.0])
    >>> gathered_product(x, jnp.arange(8.0).reshape(4, 2), 2)
    Array([10., 13.], dtype=float32)

  Source: ours; the idea is that of Liu et al., "Deja Vu", arXiv 2310.17157.
  """
  step = _AT_ONCE
  index, count = nonzero(x, -(-num_gathered // step) * step)
  values = x.at[index].get(mode="fill", fill_value=0)

  def one_by_one() -> jax.Array:
    # A gathered matrix would be written and read once more.
    def add(i: jax.Array, y: jax.Array) -> jax.Array:
      for j in range(step):
        place = i * step + j
        row = kernel[index[place]].astype(jnp.float32)
        y += values[place].astype(jnp.float32) * row
      return y

    # Summed in float32, as a product of shorter floats is.
    zeros = jnp.zeros(kernel.shape[1:], jnp.float32)
    total = lax.fori_loop(0, (count + step - 1) // step, add, zeros)
    return total.astype(kernel.dtype)

  def gathered() -> jax.Array:
    rows = kernel.at[index].get(mode="fill", fill_value=0)
    return values @ rows

  return lax.platform_dependent(cpu=one_by_one, default=gathered)


def nonzero(x: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
  """Where ``x`` is not zero, in order, and at how many places.

  As ``jnp.nonzero(x, size=size, fill_value=d)``, in a third of its time on CPU:
  ranks are sums, and sums are products with triangles.

  Args:
    x: ``[d]``.
    size: of the result; static.

  Returns:
    int32 ``[size]``, with d where there is no more; int32 scalar, at most
    ``size``.

  Example:
    >>> nonzero(jnp.array([0.0, 2.0, 0.0, 1.0]), 3)
    (Array([1, 3, 4], dtype=int32), Array(2, dtype=int32))
  """
  (d,) = x.shape
  marked = jnp.pad(x != 0, (0, -d % _SIDE)).reshape(-1, _SIDE)
  # Exact, as float32 holds these integers.
  ones = marked.astype(jnp.float32)
  within = jnp.matmul(ones, jnp.triu(jnp.ones((_SIDE, _SIDE), jnp.float32)))
  lines = len(within)
  below = jnp.tril(jnp.ones((lines, lines), jnp.float32), -1)
  before = jnp.matmul(below, within[:, -1:], precision="highest")
  rank = (within + before).astype(jnp.int32).reshape(-1)[:d]
  place = jnp.where(x != 0, rank - 1, size)
  found = jnp.full((size,), d, jnp.int32)
  found = found.at[place].set(
    jnp.arange(d, dtype=jnp.int32), mode="drop", unique_indices=True
  )
  return found, jnp.minimum(rank[-1], size)


def padded(num_kept: int, size: int) -> int:
  """Rows to gather for so many: in eighths of a power of two, at most ``size``.

  Example:
    >>> [padded(k, 4096) for k in (1, 100, 410, 4000)]
    [8, 104, 416, 4096]
  """
  step = max(8, 1 << max(0, int(num_kept).bit_length() - 4))
  return min(size, -(-num_kept // step) * step)


class GatheredDense(nn.Module):
  """A linear without bias, which may read the rows of active inputs alone.

  Attributes:
    features: of the output.
    dtype: of the computation.
    kernel_init: of the weights.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import GatheredDense
    >>> layer, x = GatheredDense(features=3), jnp.array([0.0, 2.0, 0.0, 1.0])
    >>> y, variables = layer.init_with_output(jax.random.key(0), x)
    >>> bool(jnp.allclose(layer.apply(variables, x, num_gathered=2), y))
    True
  """

  features: int
  dtype: Any = jnp.float32
  kernel_init: Any = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    num_gathered: int | None = None,
    product: Callable[[jax.Array, jax.Array], jax.Array] = jnp.matmul,
  ) -> jax.Array:
    """Maps ``[..., d]`` to ``[..., features]``.

    Args:
      x: inputs.
      num_gathered: see :func:`gathered_product`; None reads everything. For a
        single vector alone.
      product: ``(inputs, kernel) -> outputs`` of two axes each; see
        :func:`sparse_regimes.layers.token_product`.
    """
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    if num_gathered is not None and num_gathered < x.size:
      y = gathered_product(x.reshape(-1), kernel, num_gathered)
    else:
      # Of two axes alone: of more, XLA on CPU turns activations over to find
      # the gradient of the kernel, and an MLP takes twice as long.
      y = product(x.reshape(-1, x.shape[-1]), kernel)
    return y.reshape(*x.shape[:-1], self.features)
