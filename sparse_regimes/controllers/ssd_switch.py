"""Sparse stages while what is active stays the same, dense ones between."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparse_regimes.controllers.base import Controller, VectorSignal, following
from sparse_regimes.controllers.bounds import MAX_COUNT, budgets
from sparse_regimes.errors import in_range, one_of

MEASURES = ("overlap", "cosine")
# float32 each, in the state of every run that switches.
_MOST_ENTRIES = 10**6


class SSDSwitchState(NamedTuple):
  """Scalars, unless said otherwise.

  Attributes:
    keep_ratio: the budget in force, float32; ``[num_sites]`` where
      ``keep_sparse`` has an entry a site.
    is_sparse: whether the stage is a sparse one, bool.
    left: batches until the next check, or of the sparse stage, int32.
    similarity: what the last check found, float32; 0 before the second.
    pattern: the signal at the last check, float32 ``[max_entries]``, with
      zeros behind.
    num_checks: checks so far, int32.
    num_batches: batches seen, int32.
  """

  keep_ratio: jax.Array
  is_sparse: jax.Array
  left: jax.Array
  similarity: jax.Array
  pattern: jax.Array
  num_checks: jax.Array
  num_batches: jax.Array


def ssd_switch(
  *,
  keep_sparse: float = 0.25,
  similarity: float = 0.95,
  check_every: int = 100,
  sparse_steps: int = 100,
  total_steps: int = 0,
  final_dense: float = 0.1,
  measure: str = "overlap",
  max_entries: int = 256,
  signal: str = "stats",
) -> Controller:
  r"""Switches between dense and sparse by how much the activations change.

  In a dense stage every ``check_every``-th batch is a check. With p the
  activation pattern of its batch and q that of the check before, however many
  sparse batches lie between,

  .. math:: S(p, q) > \sigma:\quad r \leftarrow r_s
     \text{ for } T_s \text{ batches, then } r \leftarrow 1

  and the last share f of ``total_steps`` batches is dense. Patterns of sparse
  batches are not compared: they show the mask.

  A pattern is the vector signal ``stats``, the nonzero fraction of every site,
  or another. The paper's measure and its values are not public; those here are
  ours:

  .. math:: S = 1 - \frac{\sum_i |p_i - q_i|}{\sum_i (|p_i| + |q_i|)}
     \text{ (overlap)}, \quad
     S = \frac{p \cdot q}{\lVert p \rVert \lVert q \rVert} \text{ (cosine)}

  The overlap of two sets of active units is their Dice coefficient, here of
  fractions. It sees a common factor, as when all sites become sparser at once,
  and it works for few sites, or one. A cosine does not see a factor, and a
  cosine of centred fractions is mostly noise where sites are alike; take the
  cosine for long patterns, such as how often each neuron fires.

  The paper makes experts of the neurons in a sparse stage, which saves
  arithmetic. This moves the keep ratio alone.

  Args:
    keep_sparse: :math:`r_s`, the budget of a sparse stage, in ``[0, 1]``, a
      scalar or one a site.
    similarity: :math:`\sigma`, in ``[0, 1]``; at 1 it stays dense.
    check_every: batches from one check to the next, and from the end of a
      sparse stage, at least 1.
    sparse_steps: :math:`T_s`, at least 1.
    total_steps: batches of the whole run; 0 if there is no last dense stage.
    final_dense: f, in ``[0, 1]``.
    measure: ``overlap`` or ``cosine``.
    max_entries: room for a pattern in the state, in ``[1, 10**6]``. Zeros fill
      it up, which changes neither measure.
    signal: the vector, or tree of them, that is compared, such as ``stats``.

  ``keep_sparse`` and ``similarity`` may be traced.

  Returns:
    A :class:`Controller` with :class:`SSDSwitchState`.

  Raises:
    ValueError: for a value outside its range; when a step is traced, for a
      signal that did not come or has more than ``max_entries``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.controllers import ssd_switch
    >>> controller = ssd_switch(check_every=1, sparse_steps=2)
    >>> state = controller.init()
    >>> for active in (0.5, 0.2, 0.2, 0.1, 0.1, 0.2):
    ...   state = controller.update(state, stats=jnp.array([0.5, active]))
    ...   print(state.keep_ratio, f"{state.similarity:.3f}")
    1.0 0.000
    1.0 0.824
    0.25 1.000
    0.25 1.000
    1.0 1.000
    0.25 1.000

  Source: the switching of Zhang et al., "Exploring the Benefit of Activation
    Sparsity in Pre-training", arXiv 2410.03440; measure and values ours.
  """
  (keep_sparse,) = budgets(keep_sparse)
  in_range("keep_sparse", keep_sparse, 0, 1)
  in_range("similarity", similarity, 0, 1)
  in_range("check_every", check_every, 1, MAX_COUNT)
  in_range("sparse_steps", sparse_steps, 1, MAX_COUNT)
  in_range("total_steps", total_steps, 0, MAX_COUNT)
  in_range("final_dense", final_dense, 0, 1)
  one_of("measure", measure, MEASURES)
  in_range("max_entries", max_entries, 1, _MOST_ENTRIES)
  follows = VectorSignal(signal, True, "ssd_switch")
  # What the batch before it decides acts on the first of them.
  dense_from = total_steps - round(final_dense * total_steps)

  def init() -> SSDSwitchState:
    return SSDSwitchState(
      keep_ratio=jnp.ones(jnp.shape(keep_sparse), jnp.float32),
      is_sparse=jnp.zeros((), bool),
      left=jnp.full((), check_every, jnp.int32),
      similarity=jnp.zeros((), jnp.float32),
      pattern=jnp.zeros(max_entries, jnp.float32),
      num_checks=jnp.zeros((), jnp.int32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(state: SSDSwitchState, value: jax.Array, _: Any) -> SSDSwitchState:
    if value.size > max_entries:
      raise ValueError(
        f"max_entries must be at least the {value.size} of ssd_switch's signal"
        f" {signal!r}, got {max_entries}"
      )
    pattern = jnp.pad(value, (0, max_entries - value.size))
    num_batches = state.num_batches + 1
    left = state.left - 1
    is_due = left <= 0
    checks = is_due & ~state.is_sparse
    compares = checks & (state.num_checks > 0)

    found = _similarity(pattern, state.pattern, measure)
    enters = compares & (found > similarity)
    is_sparse = enters | (state.is_sparse & ~is_due)
    left = jnp.where(is_due, jnp.where(enters, sparse_steps, check_every), left)
    if total_steps:
      is_sparse &= num_batches < dense_from
    return SSDSwitchState(
      keep_ratio=jnp.where(is_sparse, keep_sparse, 1.0),
      is_sparse=is_sparse,
      left=left,
      similarity=jnp.where(compares, found, state.similarity),
      pattern=jnp.where(checks, pattern, state.pattern),
      num_checks=state.num_checks + checks.astype(jnp.int32),
      num_batches=num_batches,
    )

  return following(init, follows, update)


def _similarity(p: jax.Array, q: jax.Array, measure: str) -> jax.Array:
  """In ``[0, 1]`` for what is not negative; 1 for two that are all 0."""
  if measure == "overlap":
    size = jnp.sum(jnp.abs(p) + jnp.abs(q))
    shared = size - jnp.sum(jnp.abs(p - q))
  else:
    size = jnp.sqrt(jnp.sum(p * p) * jnp.sum(q * q))
    shared = jnp.sum(p * q)
  alike = jnp.all(p == q).astype(jnp.float32)
  return jnp.where(size > 0, shared / jnp.where(size > 0, size, 1.0), alike)
