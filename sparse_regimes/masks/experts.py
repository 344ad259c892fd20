"""Groups of neurons that fire together, and a router that picks some."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range
from sparse_regimes.masks.selection import topk_mask


class Experts(NamedTuple):
  """Neurons of a hidden layer, sorted by the group they belong to.

  Attributes:
    order: int ``[hidden]``: the neuron that each place gets; the groups lie one
      behind the other.
    router: float32 ``[width, groups]``: the direction that a group answers to.
  """

  order: np.ndarray
  router: np.ndarray


def expert_mask(
  scores: jax.Array, keep_ratio: ArrayLike, size: int
) -> jax.Array:
  """Marks the neurons of the groups with the largest scores.

  Args:
    scores: ``[..., groups]``, of a router or of what a group holds.
    keep_ratio: share of groups that stay, real scalar, Python or traced;
      :func:`sparse_regimes.num_kept` of them.
    size: neurons of a group.

  Returns:
    bool ``[..., groups * size]``, for neurons in the order of
    :class:`Experts`.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.experts import expert_mask
    >>> expert_mask(jnp.array([1.0, 3.0]), 0.5, 2).astype(int)
    Array([0, 0, 1, 1], dtype=int32)

  Source: MoEfication and SSD (Zhang et al., arXiv 2410.03440).
  """
  chosen = topk_mask(scores, keep_ratio, axis=-1)
  return jnp.repeat(chosen, size, axis=-1)


def make_experts(
  weights: np.ndarray, groups: int, *, rounds: int = 20, seed: int = 0
) -> Experts:
  r"""Groups the neurons of a layer by the directions they answer to.

  Columns of :math:`W_{in}`, scaled to unit length, are clustered by balanced
  k-means: in each round every group takes as many neurons, those for which the
  sum of squared distances is least (an assignment problem, solved exactly), and
  its centre becomes their mean. A group's router is its centre, as long as a
  column of :math:`W_{in}` is on average.

  Args:
    weights: :math:`W_{in}`, ``[width, hidden]``.
    groups: they divide the hidden neurons.
    rounds: at most; it ends when no neuron moves.
    seed: of the neurons that groups begin with.

  Returns:
    The order and the router.

  Raises:
    ValueError: for groups that do not divide the neurons.

  Example:
    >>> import numpy as np
    >>> from sparse_regimes.masks.experts import make_experts
    >>> w = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.1, 1.0]])
    >>> experts = make_experts(w, 2)
    >>> sorted(sorted(part.tolist()) for part in experts.order.reshape(2, 2))
    [[0, 2], [1, 3]]

  Source: the conversion of MoEfication, as SSD uses it; the exact assignment
    in place of an auction is ours.
  """
  # Slow to import, and wanted here alone.
  from scipy.optimize import linear_sum_assignment

  weights = np.asarray(weights, np.float32)
  hidden = weights.shape[1]
  in_range("groups", groups, 1, hidden)
  if hidden % groups:
    raise ValueError(f"groups must divide the {hidden} neurons, got {groups}")
  size = hidden // groups
  lengths = np.linalg.norm(weights, axis=0)
  rows = (weights / np.maximum(lengths, 1e-12)).T
  rng = np.random.default_rng(seed)
  centres = _far_apart(rows, groups, rng)
  labels = np.full(hidden, -1)
  for _ in range(rounds):
    # A place for each neuron: as many of a group as it has neurons.
    cost = -2 * rows @ np.repeat(centres, size, axis=0).T
    cost += np.repeat(np.sum(centres**2, axis=1), size)[None]
    _, places = linear_sum_assignment(cost)
    new = places // size
    if np.array_equal(new, labels):
      break
    labels = new
    centres = np.stack([rows[labels == g].mean(axis=0) for g in range(groups)])
  norms = np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
  router = (centres / norms * lengths.mean()).T
  order = np.argsort(labels, kind="stable")
  return Experts(order, router.astype(np.float32))


def reordered(
  weights_in: jax.Array,
  bias_in: jax.Array | None,
  weights_out: jax.Array,
  order: np.ndarray,
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
  """An MLP with its hidden neurons in another order, which computes the same.

  Args:
    weights_in: ``[width, hidden]``.
    bias_in: ``[hidden]``, or None.
    weights_out: ``[hidden, out]``.
    order: of :class:`Experts`; its ``np.argsort`` leads back.

  Example:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from sparse_regimes.masks.experts import reordered
    >>> w_in, w_out = jnp.eye(2), jnp.array([[1.0], [2.0]])
    >>> w_in, _, w_out = reordered(w_in, None, w_out, np.array([1, 0]))
    >>> (jnp.array([3.0, 4.0]) @ w_in) @ w_out
    Array([11.], dtype=float32)
  """
  bias = None if bias_in is None else bias_in[order]
  return weights_in[:, order], bias, weights_out[order]


def _far_apart(
  rows: np.ndarray, groups: int, rng: np.random.Generator
) -> np.ndarray:
  """Rows to begin with, each likely to be far from those before (k-means++)."""
  chosen = [int(rng.integers(len(rows)))]
  nearest = np.full(len(rows), np.inf)
  for _ in range(groups - 1):
    distance = np.sum((rows - rows[chosen[-1]]) ** 2, axis=1)
    nearest = np.minimum(nearest, distance)
    total = nearest.sum()
    share = nearest / total if total > 0 else None
    chosen.append(int(rng.choice(len(rows), p=share)))
  return rows[chosen]
