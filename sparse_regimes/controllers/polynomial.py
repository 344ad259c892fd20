"""Budgets that go from one value to another by the clock."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparse_regimes.controllers.base import Controller, guarded
from sparse_regimes.controllers.bounds import MAX_COUNT, budgets
from sparse_regimes.errors import in_range


class PolynomialState(NamedTuple):
  """Scalars.

  Attributes:
    keep_ratio: the budget in force, float32; ``[num_sites]`` where it began so.
    num_batches: batches seen, int32.
  """

  keep_ratio: jax.Array
  num_batches: jax.Array


def polynomial(
  *,
  keep_init: float = 1.0,
  keep_final: float = 0.1,
  begin: int = 0,
  end: int = 10_000,
  power: float = 3.0,
  decide_every: int = 100,
) -> Controller:
  r"""From one budget to another, fast at first, and then it stays.

  After n batches,

  .. math:: r_n = r_f + (r_0 - r_f) (1 - t)^p, \quad
     t = \mathrm{clip}\left(\frac{m - a}{z - a},\ 0,\ 1\right)

  with m the batches up to the last decision, of which there is one every
  ``decide_every`` batches. :math:`p = 3` is the cubic schedule of gradual
  pruning, there of weights.

  Args:
    keep_init: :math:`r_0`, the budget up to ``begin``, in ``[0, 1]``.
    keep_final: :math:`r_f`, the budget from ``end`` on, in ``[0, 1]``; it may
      be above the first.
    begin: a, batches, at least 0.
    end: z, batches, above ``begin``.
    power: p, in ``[0.001, 1000]``; 1 is a straight line.
    decide_every: batches between decisions, at least 1.

  All may be traced, so that ``vmap`` sweeps them; the budgets may be arrays,
  with an entry a site.

  Returns:
    A :class:`Controller` with :class:`PolynomialState`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes.controllers import polynomial
    >>> controller = polynomial(keep_final=0.2, end=4, decide_every=1)
    >>> state = controller.init()
    >>> for _ in range(5):
    ...   state = controller.update(state, loss=1.0)
    ...   print(f"{state.keep_ratio:.4f}")
    0.5375
    0.3000
    0.2125
    0.2000
    0.2000

  Source: Zhu & Gupta, "To prune, or not to prune", arXiv 1710.01878, as in
    JaxPruner (Lee et al., arXiv 2304.14082); of activations: ours.
  """
  keep_init, keep_final = budgets(keep_init, keep_final)
  in_range("keep_init", keep_init, 0, 1)
  in_range("keep_final", keep_final, 0, 1)
  in_range("begin", begin, 0, MAX_COUNT - 1)
  is_known = not isinstance(begin, jax.core.Tracer)
  in_range("end", end, begin + 1 if is_known else 1, MAX_COUNT)
  in_range("power", power, 1e-3, 1e3)
  in_range("decide_every", decide_every, 1, MAX_COUNT)

  def init() -> PolynomialState:
    return PolynomialState(
      keep_ratio=jnp.array(keep_init, jnp.float32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(state: PolynomialState, **_: Any) -> PolynomialState:
    num_batches = state.num_batches + 1
    decided = num_batches - num_batches % decide_every
    # In integers as long as they are whole: a float32 is not, above 2**24.
    done = jnp.clip(decided - begin, 0, end - begin)
    left = jnp.asarray(end - begin - done, jnp.float32)
    left /= jnp.asarray(end - begin, jnp.float32)
    keep_ratio = keep_final + (keep_init - keep_final) * left**power
    # To the last bit, so that a budget of 1 is dense.
    keep_ratio = jnp.where(done == 0, keep_init, keep_ratio)
    keep_ratio = jnp.where(left == 0, keep_final, keep_ratio)
    return PolynomialState(
      keep_ratio=jnp.clip(keep_ratio, 0, 1), num_batches=num_batches
    )

  return guarded(init, update)


def k_decay(
  *,
  keep_init: float = 1.0,
  keep_final: float = 0.1,
  k_decay_steps: int = 1000,
) -> Controller:
  r"""A number of kept activations that falls in a straight line, then stays.

  .. math:: r_n = r_f + (r_0 - r_f) \max(0, 1 - n / T)

  after n batches. So do libraries of sparse autoencoders: k begins far above
  what it will be, so that no latent is dead at the start. A k is a keep ratio
  times the width here, and may begin at all of it.

  Args:
    keep_init: :math:`r_0`, the first budget, in ``[0, 1]``.
    keep_final: :math:`r_f`, the budget after it, in ``[0, 1]``.
    k_decay_steps: T, batches, at least 1.

  Returns:
    A :class:`Controller` with :class:`PolynomialState`: it is
    :func:`polynomial` of power 1.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes.controllers import k_decay
    >>> controller = k_decay(keep_final=0.5, k_decay_steps=2)
    >>> state = controller.init()
    >>> for _ in range(3):
    ...   state = controller.update(state, loss=1.0)
    ...   print(state.keep_ratio)
    0.75
    0.5
    0.5

  Source: ``k_decay_steps`` of EleutherAI's ``sparsify``, for a keep ratio.
  """
  in_range("k_decay_steps", k_decay_steps, 1, MAX_COUNT)
  return polynomial(
    keep_init=keep_init,
    keep_final=keep_final,
    begin=0,
    end=k_decay_steps,
    power=1.0,
    decide_every=1,
  )
