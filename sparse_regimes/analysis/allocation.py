"""How sparse each site may be, so that all together hurt least."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sparse_regimes.errors import in_range

# Of sums of floats: ten steps of 0.05 are not 0.5 to the last bit.
_ROUNDING = 1e-9


class AllocationRow(NamedTuple):
  """Where the search is after a step.

  Attributes:
    sparsity: of all sites together, weighted, in ``[0, 1]``.
    error: of these sparsities.
    uniform_error: of the same sparsity at every site.
    by_site: the sparsities, a tuple of floats; a keep ratio is 1 minus it.
  """

  sparsity: float
  error: float
  uniform_error: float
  by_site: tuple[float, ...]


def greedy_allocation(
  error_fn: Callable[[np.ndarray], float],
  weights: Sequence[float],
  target: float,
  base_step: float = 0.05,
) -> list[AllocationRow]:
  r"""Sparsities by site, a step at a time where it hurts least.

  From :math:`s = 0` on, with :math:`\delta_i = \delta / w_i`, so that each
  step buys the same,

  .. math:: i^* = \arg\min_i E(s + \delta_i e_i), \quad
     s_{i^*} \leftarrow \min(1, s_{i^*} + \delta_{i^*})

  until :math:`\sum_i w_i s_i / \sum_i w_i` is at the target. Of equal errors
  the first site's counts. Where the uniform allocation turns out to be better,
  the search goes on from there, which is ours: where sites work on one another,
  the cheapest steps may lead astray. A step costs an error for each site that
  is not yet at 1, and one of the uniform allocation.

  Args:
    error_fn: ``error_fn(sparsities) -> error``, of a float64 ``[num_sites]`` in
      ``[0, 1]``, such as the distance of a block's output from its dense one.
    weights: :math:`w_i`, each at least 1e-6: sizes of the sites, in units of
      one that goes in steps of ``base_step``.
    target: weighted sparsity to reach, in ``[0, 1]``.
    base_step: :math:`\delta`, in ``[1e-6, 1]``.

  Returns:
    A row a step, the least sparse first; empty for a target of 0. To use it,
    take the row that is nearest to the sparsity that is wanted.

  Raises:
    ValueError: for a value outside its range, or an error that is no number.

  Example:
    >>> from sparse_regimes.analysis import greedy_allocation
    >>> rows = greedy_allocation(
    ...   lambda s: 3 * s[0] ** 2 + s[1] ** 2, (1, 1), 0.5, base_step=0.25
    ... )
    >>> for row in rows:
    ...   print(row.sparsity, row.error, row.uniform_error, row.by_site)
    0.125 0.0625 0.0625 (0.0, 0.25)
    0.25 0.25 0.25 (0.25, 0.25)
    0.375 0.4375 0.5625 (0.25, 0.5)
    0.5 0.75 1.0 (0.25, 0.75)

  Source: the block-wise greedy search of Liu et al., "Training-Free Activation
    Sparsity in Large Language Models" (TEAL), arXiv 2408.14690.
  """
  sizes = np.asarray(weights, np.float64)
  if sizes.ndim != 1 or not sizes.size:
    raise ValueError(
      f"weights must have an entry for each site, got shape {sizes.shape}"
    )
  in_range("weights", sizes, 1e-6)
  in_range("target", target, 0, 1)
  in_range("base_step", base_step, 1e-6, 1)

  def error_of(sparsities: np.ndarray) -> float:
    error = float(error_fn(sparsities))
    if math.isnan(error):
      raise ValueError(
        f"error_fn must return a number, got nan for {sparsities.tolist()}"
      )
    return error

  def after(counts: np.ndarray) -> np.ndarray:
    return np.minimum(1.0, counts * (base_step / sizes))

  # Counted, not added up, so that nothing is lost by rounding.
  counts = np.zeros(sizes.size)
  rows: list[AllocationRow] = []
  sparsity = 0.0
  while sparsity < target - _ROUNDING:
    tried = []
    for site in np.flatnonzero(after(counts) < 1):
      step = counts.copy()
      step[site] += 1
      tried.append((error_of(after(step)), site))
    error, site = min(tried)
    counts[site] += 1
    by_site = after(counts)
    sparsity = float(np.average(by_site, weights=sizes))
    uniform = np.full(sizes.size, sparsity)
    uniform_error = error_of(uniform)
    if uniform_error < error:
      error, by_site = uniform_error, uniform
      counts = sparsity * sizes / base_step
    rows.append(
      AllocationRow(
        sparsity=sparsity,
        error=error,
        uniform_error=uniform_error,
        by_site=tuple(by_site.tolist()),
      )
    )
  return rows
