"""How concentrated the spectrum of a weight matrix is."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_regimes.errors import in_range
from sparse_regimes.tree import by_path

# Flax's names in an attention.
_PER_HEAD = ("query", "key", "value")


class Concentration(NamedTuple):
  r"""Of the eigenvalues of :math:`K K^T`.

  Attributes:
    ratio: 10 to the width of the shortest interval of :math:`\log_{10}
      \lambda` that holds 80 % of those that are not near zero; 1 is a flat
      spectrum. NaN if there are none.
    near_zero: the share of the others.
    extreme_ratio: largest over smallest of those above ``r`` times the mean.

  Source: Peng et al., arXiv 2309.03004.
  """

  ratio: float
  near_zero: float
  extreme_ratio: float


def gram_eigenvalues(kernel: jax.Array) -> jax.Array:
  r"""The eigenvalues of :math:`K K^T`, largest first.

  Args:
    kernel: of a linear layer as Flax has it, :math:`K^T`, ``[d, n]``.

  Returns:
    float32 ``[n]``; ``n - d`` of them are 0 by shape if ``n > d``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import gram_eigenvalues
    >>> gram_eigenvalues(jnp.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    Array([4., 1., 0.], dtype=float32)

  Source: Peng et al., arXiv 2309.03004.
  """
  d, n = kernel.shape
  values = jnp.linalg.svd(kernel.astype(jnp.float32), compute_uv=False)
  return jnp.pad(jnp.square(values), (0, max(0, n - d)))


def concentration(
  eigenvalues: jax.Array | np.ndarray,
  *,
  share: float = 0.8,
  near_zero: float = 0.1,
  r: float = 0.1,
) -> Concentration:
  r"""How far apart eigenvalues lie.

  .. math:: \mathrm{ratio} = \min_{i} \lambda_{(i + m - 1)} / \lambda_{(i)},
     \qquad m = \lceil \mathrm{share} \cdot k \rceil

  over the k eigenvalues above ``near_zero``, in ascending order.

  Args:
    eigenvalues: not negative, ``[n]`` with n at least 1.
    share: of the eigenvalues that are not near zero, in ``(0, 1]``; at least so
      many lie in the interval.
    near_zero: the largest value that is, at least 0.
    r: of the mean, for the extremes, at least 0.

  Example:
    >>> import numpy as np
    >>> from sparse_regimes.analysis import concentration
    >>> concentration(np.array([0.0, 1.0, 10.0, 10.0, 10.0, 10.0]))
    Concentration(ratio=1.0, near_zero=0.16666666666666666, extreme_ratio=10.0)

  Source: Peng et al., arXiv 2309.03004.
  """
  in_range("share", share, 1e-9, 1)
  in_range("near_zero", near_zero, 0)
  in_range("r", r, 0)
  values = np.asarray(eigenvalues, np.float64)
  nonzero = np.sort(np.log10(values[values > near_zero]))
  ratio = np.nan
  if nonzero.size:
    # A quotient such as 0.8 * 5 may be a hair above the integer it is.
    number = int(nonzero.size)
    held = max(1, math.ceil(share * number - 1e-9))
    widths = nonzero[held - 1 :] - nonzero[: number - held + 1]
    ratio = 10.0 ** float(widths.min())
  large = values[values > r * values.mean()]
  extreme = np.max(large) / np.min(large) if large.size else np.nan
  return Concentration(
    float(ratio), float(np.mean(values <= near_zero)), float(extreme)
  )


def spectra(params: Any) -> dict[str, Concentration]:
  """The concentration of every weight matrix among parameters.

  Args:
    params: a pytree, in which weights are called ``kernel``. Convolutions
      ``[h, w, d, n]`` are read as ``[h w d, n]``, what makes queries, keys and
      values, ``[d, heads, n]``, as ``[d, heads n]``.

  Returns:
    By path, as ``block0_mlp/linear1/kernel``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import spectra
    >>> list(spectra({"head": {"kernel": jnp.eye(3), "bias": jnp.ones(3)}}))
    ['head/kernel']

  Source: Peng et al., arXiv 2309.03004.
  """
  return {
    name: concentration(gram_eigenvalues(_matrix(name, leaf)))
    for name, leaf in by_path(params).items()
    if name.rpartition("/")[2] == "kernel"
  }


def _matrix(name: str, kernel: jax.Array) -> jax.Array:
  module = name.rpartition("/")[0].rpartition("/")[2]
  if module in _PER_HEAD:
    return kernel.reshape(len(kernel), -1)
  return kernel.reshape(-1, kernel.shape[-1])
