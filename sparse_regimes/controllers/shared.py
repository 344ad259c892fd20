"""One budget, shared among the sites by how much each uses."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.controllers.base import (
  Controller,
  VectorSignal,
  following,
  total_budget,
)
from sparse_regimes.controllers.bounds import MAX_COUNT
from sparse_regimes.errors import in_range

# Of the largest: no site asks for nothing, so that the budget is used up.
_LEAST_NEED = 1e-4


class SharedState(NamedTuple):
  """A controller's state, and how its budget is shared.

  Attributes:
    controller: state of the controller that decides the total.
    keep_ratio: the budgets in force, float32 ``[num_sites]``.
    needs: what each site gets in proportion to, float32 ``[num_sites]``.
    seen: sum of the signal since they were found, float32 ``[num_sites]``.
    num_batches: batches seen, int32 scalar.
  """

  controller: Any
  keep_ratio: jax.Array
  needs: jax.Array
  seen: jax.Array
  num_batches: jax.Array

  @property
  def total(self) -> jax.Array:
    """The budget of all sites together."""
    return total_budget(self.controller)


def shared(
  controller: Controller,
  weights: Sequence[float],
  *,
  every: int = 100,
  strength: float = 0.5,
  least: float = 0.1,
  signal: str = "stats",
) -> Controller:
  r"""A controller's budget shared among the sites by how active each is.

  With R the controller's budget, :math:`w_i` the sizes of the sites,
  :math:`\sum_i w_i = 1`, and :math:`a_i` the mean nonzero fraction of site i
  over the last ``every`` batches before its needs were found,

  .. math:: r_i = \min(1,\ l R + c\, a_i^\alpha), \quad
     c \text{ such that } \sum_i w_i r_i = R

  A site that leaves part of its budget unused, as its activations are zero by
  themselves, passes it on. What sites use depends on what they were given: at
  :math:`\alpha = 1` those that use all of theirs keep the proportion in which
  they were, below 1 they become equal again. 0 is the same budget for all.

  Args:
    controller: what decides R, a scalar.
    weights: :math:`w_i` up to a factor, each at least 1e-6: a site's number of
      activations, or the arithmetic behind it; equal ones make R the mean.
      There is one for each site, in the order in which the network calls them.
    every: batches from one look at the needs to the next, at least 1. Before
      the first all sites have R.
    strength: :math:`\alpha`, in ``[0, 1]``.
    least: l, the share of R that every site has, in ``[0, 1]``.
    signal: whose entries are the :math:`a_i`, such as ``stats``.

  Returns:
    A :class:`Controller` with :class:`SharedState`.

  Raises:
    ValueError: for a value outside its range, or a controller with a budget
      for each site; when a step is traced, for a signal that did not come or
      has not an entry a site.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import controllers
    >>> from sparse_regimes.controllers import shared
    >>> controller = shared(
    ...   controllers.constant(0.5), (1, 1), every=1, strength=1.0, least=0.0
    ... )
    >>> state = controller.init()
    >>> print(state.keep_ratio)
    [0.5 0.5]
    >>> state = controller.update(state, stats=jnp.array([0.1, 0.3]))
    >>> print(state.keep_ratio)
    [0.25 0.75]

  Source: ours.
  """
  num_sites = len(weights)
  if not num_sites:
    raise ValueError("weights must have an entry for each site, got none")
  in_range("weights", weights, 1e-6)
  in_range("every", every, 1, MAX_COUNT)
  in_range("strength", strength, 0, 1)
  in_range("least", least, 0, 1)
  shape = jax.eval_shape(controller.init).keep_ratio.shape
  if shape:
    raise ValueError(
      f"controller must have one budget to share, got shape {shape}"
    )
  follows = VectorSignal(signal, True, "shared")

  def init() -> SharedState:
    inner = controller.init()
    return SharedState(
      controller=inner,
      keep_ratio=jnp.full(num_sites, inner.keep_ratio, jnp.float32),
      needs=jnp.ones(num_sites, jnp.float32),
      seen=jnp.zeros(num_sites, jnp.float32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(
    state: SharedState, value: jax.Array, signals: dict[str, Any]
  ) -> SharedState:
    # A dict's order is that of its names.
    shapes = jax.tree.map(jnp.shape, signals[signal])
    if shapes != (num_sites,):
      raise ValueError(
        f"shared's signal {signal!r} must be an array with an entry for each of"
        f" {num_sites} sites, got {shapes}"
      )
    inner = controller.update(state.controller, **signals)
    num_batches = state.num_batches + 1
    looks = num_batches % every == 0
    seen = state.seen + value
    needs = jnp.where(looks, _needs(seen / every, strength), state.needs)
    return SharedState(
      controller=inner,
      keep_ratio=share(inner.keep_ratio, needs, weights, least=least),
      needs=needs,
      seen=jnp.where(looks, 0.0, seen),
      num_batches=num_batches,
    )

  return following(init, follows, update)


def share(
  total: ArrayLike,
  needs: jax.Array,
  weights: Sequence[float] | jax.Array,
  *,
  least: ArrayLike = 0.0,
) -> jax.Array:
  r"""Budgets in proportion to needs, at most 1, whose weighted mean is given.

  .. math:: r_i = \min(1,\ l R + c\, n_i), \quad
     c \text{ such that } \sum_i w_i r_i = R \sum_i w_i

  Args:
    total: R, in ``[0, 1]``, scalar.
    needs: n, positive, ``[num_sites]``.
    weights: w, positive, ``[num_sites]``.
    least: l, in ``[0, 1]``.

  Returns:
    float32 ``[num_sites]``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.controllers import share
    >>> print(share(0.5, jnp.array([1.0, 3.0]), (1, 1)))
    [0.25 0.75]
    >>> print(share(0.75, jnp.array([1.0, 3.0]), (1, 1)))
    [0.5 1. ]

  Source: ours.
  """
  total = jnp.asarray(total, jnp.float32)
  sizes = jnp.asarray(weights, jnp.float32)
  sizes = sizes / jnp.sum(sizes)
  base = least * total
  cap, rest = 1 - base, total - base
  # If the k neediest have all they can, the others share what is left. The
  # first k with which none of these has too much is the right one.
  order = jnp.argsort(-needs)
  need, size = needs[order], sizes[order]
  full = jnp.cumsum(size) - size
  asked = jnp.cumsum((need * size)[::-1])[::-1]
  scales = (rest - cap * full) / asked
  fits = scales * need <= cap
  scale = scales[jnp.argmax(fits)]
  wanted = scale * needs
  is_full = (wanted >= cap) | ~jnp.any(fits) | (total >= 1)
  # A budget of 1 is dense, of 0.9999999 is not.
  return jnp.where(is_full, 1.0, jnp.clip(base + wanted, 0, 1))


def _needs(active: jax.Array, strength: ArrayLike) -> jax.Array:
  active = jnp.maximum(active, 0.0)
  most = jnp.max(active)
  active = jnp.where(most > 0, active / jnp.where(most > 0, most, 1.0), 1.0)
  return jnp.maximum(active, _LEAST_NEED) ** strength
