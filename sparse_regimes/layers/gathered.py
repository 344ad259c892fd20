"""A linear layer that reads the weights of active inputs alone."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def gathered_product(
  x: jax.Array, kernel: jax.Array, num_gathered: int
) -> jax.Array:
  r"""``x @ kernel`` of a vector that has few nonzero entries.

  .. math:: y = \sum_{i \in S} x_i W_i, \quad S = \{i : x_i \ne 0\}

  One vector times a matrix takes as long as reading the matrix. Here the rows
  of S alone are read, so it takes their share of that. In the last bits it may
  differ from the whole product, which adds in another order.

  Args:
    x: ``[d]``, of which at most ``num_gathered`` entries are not zero; what is
      beyond them would be lost.
    kernel: ``[d, n]``.
    num_gathered: rows that are read; static. Padded up, few programs serve all
      budgets: :func:`padded`.

  Returns:
    ``[n]``, of the dtype of both.

  Example:
    >>> x = jnp.array([0.0, 2.0, 0.0, 1.0])
    >>> gathered_product(x, jnp.arange(8.0).reshape(4, 2), 2)
    Array([10., 13.], dtype=float32)

  Source: ours; the idea is that of Liu et al., "Deja Vu", arXiv 2310.17157.
  """
  # Entries that are not zero in their order, and zeros behind them.
  (index,) = jnp.nonzero(x, size=num_gathered, fill_value=x.size)
  rows = kernel.at[index].get(mode="fill", fill_value=0)
  return x.at[index].get(mode="fill", fill_value=0) @ rows


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
  """

  features: int
  dtype: Any = jnp.float32
  kernel_init: Any = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(
    self, x: jax.Array, num_gathered: int | None = None
  ) -> jax.Array:
    """Maps ``[..., d]`` to ``[..., features]``.

    Args:
      x: inputs.
      num_gathered: see :func:`gathered_product`; None reads everything. For a
        single vector alone.
    """
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    if num_gathered is not None and num_gathered < x.size:
      y = gathered_product(x.reshape(-1), kernel, num_gathered)
    else:
      # Of two axes alone: of more, XLA on CPU turns activations over to find
      # the gradient of the kernel, and an MLP takes twice as long.
      y = x.reshape(-1, x.shape[-1]) @ kernel
    return y.reshape(*x.shape[:-1], self.features)
