"""Strategy 1: compress at every decision, relax when accuracy has dropped."""

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

# A relaxation grows with the drop, up to this many relax_steps.
_MAX_RELAX_FACTOR = 5.0


class Strategy1State(NamedTuple):
  """Scalars, float32 unless said otherwise.

  Attributes:
    keep_ratio: the budget in force; ``[num_sites]`` where it began so.
    ema: moving average of the signal, a batch's accuracy.
    best_ema: the best ``ema`` so far.
    cooldown: decisions left without compression, int32.
    num_batches: batches seen, int32.
  """

  keep_ratio: jax.Array
  ema: jax.Array
  best_ema: jax.Array
  cooldown: jax.Array
  num_batches: jax.Array


def strategy1(
  *,
  keep_init: float = 1.0,
  keep_min: float = 0.0,
  keep_max: float = 1.0,
  tighten_pct: float = 0.018,
  relax_step: float = 1.0,
  ema_beta: float = 0.5,
  drop_tol: float = 0.12,
  cooldown: int = 3,
  relax_gain: float = 1.5,
  max_relax_jump: float = 1.0,
  decide_every: int = 128,
  best_decay: float = 0.0,
  signal: str = "accuracy",
  higher_is_better: bool | None = None,
) -> Controller:
  r"""The controller of the paper's released program, with its released values.

  Every ``decide_every`` batches, with :math:`d = b - e` the fall of the
  accuracy's average e from its best b:

  .. math::
     d > \tau:\quad & \delta = s \cdot \min(1 + g\,(d - \tau)/\tau,\ 5)
       \text{, at most } j \text{ if } j > 0,\quad
       r \leftarrow \min(r_{\max}, r + \delta),\quad c \leftarrow C \\
     \text{else } c > 0:\quad & c \leftarrow c - 1 \\
     \text{else}:\quad & r \leftarrow \max(r_{\min}, r (1 - p))

  With the released values a drop resets the budget to dense.

  Args:
    keep_init: the first budget, in ``[keep_min, keep_max]``.
    keep_min: :math:`r_{\min}`, in ``[0, 1]``.
    keep_max: :math:`r_{\max}`, in ``[0, 1]``.
    tighten_pct: p, the fraction by which a decision compresses, in ``[0, 1)``.
    relax_step: s, added to the budget on a drop, at least 0.
    ema_beta: weight of the past in the average, in ``[0, 1)``.
    drop_tol: :math:`\tau`, tolerated fall in the signal: for accuracy in
      ``[0, 1]``, otherwise at least 0, in the signal's unit.
    cooldown: C, decisions without compression after a relaxation.
    relax_gain: g, growth of the step with the drop, at least 0.
    max_relax_jump: j, cap of one relaxation; 0 is no cap.
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
    A :class:`Controller` with :class:`Strategy1State`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes.controllers import strategy1
    >>> controller = strategy1(decide_every=1, cooldown=0)
    >>> state = controller.init()
    >>> for accuracy in (0.9, 0.9, 0.1):
    ...   state = controller.update(state, accuracy=accuracy)
    ...   print(f"{state.keep_ratio:.3f}")
    0.982
    0.964
    1.000

  Source: Wang, "Joint Training Across Multiple Activation Sparsity Regimes",
    arXiv 2603.03131, as its released program has it.
  """
  keep_init, keep_min, keep_max, tighten_pct = budgets(
    keep_init, keep_min, keep_max, tighten_pct
  )
  check_budget(keep_init, keep_min, keep_max, tighten_pct, decide_every)
  in_range("ema_beta", ema_beta, 0, 1, below=True)
  follows = make_signal("strategy1", signal, higher_is_better, drop_tol)
  in_range("best_decay", best_decay, 0, 1)
  in_range("relax_step", relax_step, 0)
  in_range("relax_gain", relax_gain, 0)
  in_range("max_relax_jump", max_relax_jump, 0)
  in_range("cooldown", cooldown, 0, MAX_COUNT)

  def init() -> Strategy1State:
    return Strategy1State(
      keep_ratio=jnp.array(keep_init, jnp.float32),
      ema=jnp.zeros((), jnp.float32),
      best_ema=jnp.zeros((), jnp.float32),
      cooldown=jnp.zeros((), jnp.int32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(state: Strategy1State, value: jax.Array, _: Any) -> Strategy1State:
    ema, best_ema = follows.average(
      state.ema, state.best_ema, state.num_batches, value, ema_beta=ema_beta
    )
    num_batches = state.num_batches + 1
    decides = num_batches % decide_every == 0

    drop = follows.drop(ema, best_ema)
    relaxes = drop > drop_tol
    cools = ~relaxes & (state.cooldown > 0)

    excess = (drop - drop_tol) / jnp.maximum(drop_tol, 1e-12)
    jump = relax_step * jnp.minimum(1 + relax_gain * excess, _MAX_RELAX_FACTOR)
    most = jnp.where(jnp.asarray(max_relax_jump) > 0, max_relax_jump, jnp.inf)
    jump = jnp.minimum(jump, most)
    relaxed = jnp.minimum(keep_max, state.keep_ratio + jump)
    tightened = jnp.maximum(keep_min, state.keep_ratio * (1 - tighten_pct))

    keep_ratio = jnp.where(
      relaxes, relaxed, jnp.where(cools, state.keep_ratio, tightened)
    )
    cooldown_left = jnp.where(
      relaxes, cooldown, state.cooldown - cools.astype(jnp.int32)
    )
    return Strategy1State(
      keep_ratio=jnp.where(decides, keep_ratio, state.keep_ratio),
      ema=ema,
      best_ema=jnp.where(
        decides, lowered_best(ema, best_ema, best_decay), best_ema
      ),
      cooldown=jnp.where(decides, cooldown_left, state.cooldown),
      num_batches=num_batches,
    )

  return following(init, follows, update)
