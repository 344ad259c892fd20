"""Strategy 2, our reading: reset at the floor or after lasting trouble."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparse_regimes.controllers.base import (
  Controller,
  following,
  lowered_best,
  make_signal,
)
from sparse_regimes.controllers.bounds import MAX_COUNT, budgets, check_budget
from sparse_regimes.errors import in_range


class Strategy2State(NamedTuple):
  """Scalars, float32 unless said otherwise.

  Attributes:
    keep_ratio: the budget in force; ``[num_sites]`` where it began so.
    ema: moving average of the signal, a batch's accuracy.
    best_ema: the best ``ema`` so far.
    waiting: decisions in a row with a drop beyond tolerance, int32, of the
      shape of ``keep_ratio``.
    num_batches: batches seen, int32.
  """

  keep_ratio: jax.Array
  ema: jax.Array
  best_ema: jax.Array
  waiting: jax.Array
  num_batches: jax.Array


def strategy2(
  *,
  keep_init: float = 1.0,
  keep_min: float = 0.02,
  keep_max: float = 1.0,
  tighten_pct: float = 0.018,
  ema_beta: float = 0.5,
  drop_tol: float = 0.12,
  patience: int = 3,
  decide_every: int = 128,
  best_decay: float = 0.0,
  signal: str = "accuracy",
  higher_is_better: bool | None = None,
) -> Controller:
  r"""Our reading of the paper's second controller, which is not public.

  The paper says only that it "compresses progressively and resets". Here,
  every ``decide_every`` batches, with :math:`d = b - e` the fall of the
  accuracy's average e from its best b:

  .. math::
     r \le r_{\min}:\quad & r \leftarrow r_{\max},\ w \leftarrow 0 \\
     \text{else } d > \tau:\quad & w \leftarrow w + 1;
       \text{ if } w = P:\ r \leftarrow r_{\max},\ w \leftarrow 0 \\
     \text{else}:\quad & w \leftarrow 0,\
       r \leftarrow \max(r_{\min}, r (1 - p))

  Args:
    keep_init: the first budget, in ``[keep_min, keep_max]``.
    keep_min: :math:`r_{\min}`, the floor that triggers a reset, in ``[0, 1]``.
    keep_max: :math:`r_{\max}`, in ``[0, 1]``.
    tighten_pct: p, the fraction by which a decision compresses, in ``[0, 1)``.
    ema_beta: weight of the past in the average, in ``[0, 1)``.
    drop_tol: :math:`\tau`, tolerated fall in the signal: for accuracy in
      ``[0, 1]``, otherwise at least 0, in the signal's unit.
    patience: P, decisions to wait below tolerance before a reset, at least 1.
    decide_every: batches between decisions, at least 1.
    best_decay: :math:`\lambda`, in ``[0, 1]``; after every decision
      :math:`b \leftarrow b - \lambda (b - e)`. 0 never lowers the best.
    signal: the signal that is followed, ``accuracy`` or another of the step's:
      ``loss``, or what a loss function returns among ``aux["signals"]``.
    higher_is_better: whether more of it is; None for what its name says: less
      of a ``loss`` is, more of anything else.

  All but ``signal`` and ``higher_is_better`` may be traced, so that ``vmap``
  sweeps them; the budgets may be arrays, with an entry a site.

  Returns:
    A :class:`Controller` with :class:`Strategy2State`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes.controllers import strategy2
    >>> controller = strategy2(decide_every=1, tighten_pct=0.5, keep_min=0.3)
    >>> state = controller.init()
    >>> for _ in range(3):
    ...   state = controller.update(state, accuracy=0.9)
    ...   print(f"{state.keep_ratio:.2f}")
    0.50
    0.30
    1.00

  Source: ours, in the spirit of Wang, arXiv 2603.03131.
  """
  keep_init, keep_min, keep_max, tighten_pct = budgets(
    keep_init, keep_min, keep_max, tighten_pct
  )
  check_budget(keep_init, keep_min, keep_max, tighten_pct, decide_every)
  in_range("ema_beta", ema_beta, 0, 1, below=True)
  follows = make_signal("strategy2", signal, higher_is_better, drop_tol)
  in_range("best_decay", best_decay, 0, 1)
  in_range("patience", patience, 1, MAX_COUNT)

  def init() -> Strategy2State:
    return Strategy2State(
      keep_ratio=jnp.array(keep_init, jnp.float32),
      ema=jnp.zeros((), jnp.float32),
      best_ema=jnp.zeros((), jnp.float32),
      waiting=jnp.zeros(jnp.shape(keep_init), jnp.int32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(state: Strategy2State, value: jax.Array, _: Any) -> Strategy2State:
    ema, best_ema = follows.average(
      state.ema, state.best_ema, state.num_batches, value, ema_beta=ema_beta
    )
    num_batches = state.num_batches + 1
    decides = num_batches % decide_every == 0

    at_floor = state.keep_ratio <= keep_min
    dropped = ~at_floor & (follows.drop(ema, best_ema) > drop_tol)
    resets = at_floor | (dropped & (state.waiting + 1 >= patience))
    tightened = jnp.maximum(keep_min, state.keep_ratio * (1 - tighten_pct))

    keep_ratio = jnp.where(
      resets, keep_max, jnp.where(dropped, state.keep_ratio, tightened)
    )
    waiting = jnp.where(dropped & ~resets, state.waiting + 1, 0)
    return Strategy2State(
      keep_ratio=jnp.where(decides, keep_ratio, state.keep_ratio),
      ema=ema,
      best_ema=jnp.where(
        decides, lowered_best(ema, best_ema, best_decay), best_ema
      ),
      waiting=jnp.where(decides, waiting, state.waiting),
      num_batches=num_batches,
    )

  return following(init, follows, update)
