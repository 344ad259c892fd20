"""Strategy 1 in small steps: it hovers where it would be reset."""

from sparse_regimes.controllers.base import Controller
from sparse_regimes.controllers.strategy1 import strategy1


def gentle(
  *,
  keep_init: float = 1.0,
  keep_min: float = 0.2,
  keep_max: float = 1.0,
  tighten_pct: float = 0.02,
  relax_step: float = 0.03,
  ema_beta: float = 0.9,
  drop_tol: float = 0.01,
  cooldown: int = 3,
  relax_gain: float = 1.5,
  max_relax_jump: float = 0.03,
  decide_every: int = 50,
  best_decay: float = 0.0,
  signal: str = "accuracy",
  higher_is_better: bool | None = None,
) -> Controller:
  r"""The controller of the paper's released program, with its class defaults.

  The program has two sets of values. Those that it runs with are the defaults
  of :func:`strategy1`: a drop opens the budget at once. Those that its class
  has by itself are the defaults here. With :math:`d = b - e` the fall of the
  accuracy's average e from its best b, a decision does

  .. math::
     d > \tau:\quad & r \leftarrow \min(r_{\max}, r + \min(\delta, j)),
       \quad c \leftarrow C \\
     \text{else } c > 0:\quad & c \leftarrow c - 1 \\
     \text{else}:\quad & r \leftarrow \max(r_{\min}, r (1 - p))

  with :math:`\delta = s \cdot \min(1 + g\,(d - \tau)/\tau,\ 5)`. As
  :math:`s = j = 0.03`, a drop adds 0.03, and the budget hovers at the edge of
  what the network bears, instead of being reset. It is not known to be the
  paper's Strategy 2; for our reading of that see :func:`strategy2`.

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
    best_decay: see :func:`strategy1`, as are the others.
    signal: the signal that is followed.
    higher_is_better: whether more of it is.

  Returns:
    A :class:`Controller` with :class:`Strategy1State`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes.controllers import gentle
    >>> controller = gentle(keep_init=0.5, decide_every=1, ema_beta=0.0)
    >>> state = controller.init()
    >>> for accuracy in (0.9, 0.9, 0.1):
    ...   state = controller.update(state, accuracy=accuracy)
    ...   print(f"{state.keep_ratio:.3f}")
    0.490
    0.480
    0.510

  Source: Wang, "Joint Training Across Multiple Activation Sparsity Regimes",
    arXiv 2603.03131, class defaults of its released program.
  """
  return strategy1(
    keep_init=keep_init,
    keep_min=keep_min,
    keep_max=keep_max,
    tighten_pct=tighten_pct,
    relax_step=relax_step,
    ema_beta=ema_beta,
    drop_tol=drop_tol,
    cooldown=cooldown,
    relax_gain=relax_gain,
    max_relax_jump=max_relax_jump,
    decide_every=decide_every,
    best_decay=best_decay,
    signal=signal,
    higher_is_better=higher_is_better,
  )
