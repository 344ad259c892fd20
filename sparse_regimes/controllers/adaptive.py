"""A budget that falls by steps for as long as the loss bears it."""

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


class AdaptiveState(NamedTuple):
  """Scalars, float32 unless said otherwise.

  Attributes:
    keep_ratio: the budget in force; ``[num_sites]`` where it began so.
    ema: moving average of the signal, a batch's loss.
    best_ema: the best ``ema`` so far.
    within: decisions in a row within tolerance since the last step, int32.
    num_batches: batches seen, int32.
  """

  keep_ratio: jax.Array
  ema: jax.Array
  best_ema: jax.Array
  within: jax.Array
  num_batches: jax.Array


def adaptive(
  *,
  keep_init: float = 1.0,
  keep_min: float = 0.1,
  keep_max: float = 1.0,
  tighten_step: float = 0.05,
  relax_step: float = 0.0,
  ema_beta: float = 0.9,
  drop_tol: float = 0.1,
  patience: int = 1,
  decide_every: int = 128,
  best_decay: float = 0.0,
  signal: str = "loss",
  higher_is_better: bool | None = None,
) -> Controller:
  r"""Sparser by a step while the loss is close to its best, else it holds.

  Every ``decide_every`` batches, with :math:`d = e - b` the rise of the loss's
  average e above its best b:

  .. math::
     d \le \tau:\quad & w \leftarrow w + 1;
       \text{ if } w = P:\ r \leftarrow \max(r_{\min}, r - s),\
       w \leftarrow 0 \\
     \text{else}:\quad & w \leftarrow 0,\
       r \leftarrow \min(r_{\max}, r + f)

  With :math:`f = 0` it holds, otherwise it falls back. Steps are equal, where
  those of the strategies are a fraction of the budget.

  What is known of NNCF's adaptive schedule: the target sparsity rises by a
  step, up to a final one, after some epochs within a tolerance. It belonged to
  sparse weights, and is in old releases alone. That the tolerance is one of the
  training loss, the fall back and all values here are our reading.

  Args:
    keep_init: the first budget, in ``[keep_min, keep_max]``.
    keep_min: :math:`r_{\min}`, the target, in ``[0, 1]``.
    keep_max: :math:`r_{\max}`, in ``[0, 1]``.
    tighten_step: s, taken off the budget, in ``[0, 1]``.
    relax_step: f, added to the budget beyond tolerance, at least 0.
    ema_beta: weight of the past in the average, in ``[0, 1)``.
    drop_tol: :math:`\tau`, at least 0, in the signal's unit; for accuracy in
      ``[0, 1]``.
    patience: P, decisions in a row within tolerance for a step, at least 1.
    decide_every: batches between decisions, at least 1.
    best_decay: :math:`\lambda`, in ``[0, 1]``; after every decision
      :math:`b \leftarrow b - \lambda (b - e)`. 0 never moves the best back.
    signal: the signal that is followed, ``loss`` or another of the step's:
      ``accuracy``, or what a loss function returns among ``aux["signals"]``.
    higher_is_better: whether more of it is; None for what its name says: less
      of a ``loss`` is, more of anything else.

  All but ``signal`` and ``higher_is_better`` may be traced, so that ``vmap``
  sweeps them; the budgets may be arrays, with an entry a site.

  Returns:
    A :class:`Controller` with :class:`AdaptiveState`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes.controllers import adaptive
    >>> controller = adaptive(decide_every=1, relax_step=0.2, ema_beta=0.0)
    >>> state = controller.init()
    >>> for loss in (2.0, 1.9, 1.95, 2.5):
    ...   state = controller.update(state, loss=loss)
    ...   print(f"{state.keep_ratio:.2f}")
    0.95
    0.90
    0.85
    1.00

  Source: ours, in the spirit of the adaptive schedule of old releases of NNCF
    (openvinotoolkit/nncf).
  """
  keep_init, keep_min, keep_max = budgets(keep_init, keep_min, keep_max)
  check_budget(keep_init, keep_min, keep_max, 0.0, decide_every)
  in_range("tighten_step", tighten_step, 0, 1)
  in_range("relax_step", relax_step, 0)
  in_range("ema_beta", ema_beta, 0, 1, below=True)
  follows = make_signal("adaptive", signal, higher_is_better, drop_tol)
  in_range("patience", patience, 1, MAX_COUNT)
  in_range("best_decay", best_decay, 0, 1)

  def init() -> AdaptiveState:
    return AdaptiveState(
      keep_ratio=jnp.array(keep_init, jnp.float32),
      ema=jnp.zeros((), jnp.float32),
      best_ema=jnp.zeros((), jnp.float32),
      within=jnp.zeros((), jnp.int32),
      num_batches=jnp.zeros((), jnp.int32),
    )

  def update(state: AdaptiveState, value: jax.Array, _: Any) -> AdaptiveState:
    ema, best_ema = follows.average(
      state.ema, state.best_ema, state.num_batches, value, ema_beta=ema_beta
    )
    num_batches = state.num_batches + 1
    decides = num_batches % decide_every == 0

    is_within = follows.drop(ema, best_ema) <= drop_tol
    steps = is_within & (state.within + 1 >= patience)
    tightened = jnp.maximum(keep_min, state.keep_ratio - tighten_step)
    relaxed = jnp.minimum(keep_max, state.keep_ratio + relax_step)

    keep_ratio = jnp.where(
      steps, tightened, jnp.where(is_within, state.keep_ratio, relaxed)
    )
    within = jnp.where(is_within & ~steps, state.within + 1, 0)
    return AdaptiveState(
      keep_ratio=jnp.where(decides, keep_ratio, state.keep_ratio),
      ema=ema,
      best_ema=jnp.where(
        decides, lowered_best(ema, best_ema, best_decay), best_ema
      ),
      within=jnp.where(decides, within, state.within),
      num_batches=num_batches,
    )

  return following(init, follows, update)
