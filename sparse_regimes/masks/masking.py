"""An activation under a mask: the function that networks call."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.errors import one_of
from sparse_regimes.masks.activations import Activation, get_activation
from sparse_regimes.masks.budget import (
  Axis,
  as_ratio,
  budget_axes,
  check_scope,
)
from sparse_regimes.masks.gradients import GRADIENTS, kept
from sparse_regimes.masks.kernels.choice import IMPLEMENTATIONS
from sparse_regimes.masks.rules import Site, make_rule
from sparse_regimes.masks.selection import SCORES, topk_activation, topk_mask


def sparse_activation(
  x: jax.Array,
  keep_ratio: ArrayLike,
  *,
  activation: str | Activation = "relu",
  scope: str = "global",
  score: str = "value",
  axis: Axis | None = None,
  implementation: str | None = None,
  mask: str = "topk",
  gradient: str = "masked",
) -> jax.Array:
  r"""An activation of which only the top k entries survive.

  .. math:: y = \sigma(x) \odot M, \quad
     M = \mathrm{topk\_mask}(\sigma(x) \text{ or } |\sigma(x)|, r)

  What shares a budget competes. With the scope ``global`` all positions of an
  example do, so that in a causal model a later token decides which earlier
  activations survive: it leaks the future. A causal model wants the scope
  ``channel``, or ``axis=-1``.

  With s the scores, other masks M than the top k are

  - ``nm:M``: of every M neighbours on the last axis the
    :math:`n = \max(1, \lfloor rM \rfloor)` largest; ``nm:4`` at r = 0.5 is 2:4
    (:func:`sparse_regimes.masks.n_m.n_m_mask`).
  - ``threshold``, ``threshold:channel``: :math:`s > t(r)`, with t the quantile
    :math:`1 - r` of the site or of a channel, measured on earlier batches
    (:mod:`sparse_regimes.masks.quantiles`). By value it is FATReLU's, by
    magnitude TEAL's and CATS's. ``threshold:0.1`` is fixed: below 1 the ratio
    does not move it.
  - ``statistical``, ``statistical:soft``: s above mean + std times a normal
    quantile; soft subtracts the cut
    (:func:`sparse_regimes.masks.normal_cut.normal_cut`).
  - ``top_p``: the smallest set that holds a share r of the mass; ``max_p``:
    :math:`|s| \ge (1 - r) \max |s|` (:mod:`sparse_regimes.masks.mass`).
  - ``batch_topk``: the top k of the whole batch; a network that does not train
    takes thresholds it has learned, so that the others in a batch do not count.
  - ``expert:G``: of G groups of neighbouring channels those that hold the most
    (:mod:`sparse_regimes.masks.experts`).
  - ``kwinners:B``: top k of scores that are raised where a channel is rarely
    active (:mod:`sparse_regimes.masks.boosting`).

  ``threshold``, ``batch_topk`` and ``kwinners`` remember something:
  :class:`sparse_regimes.SparseActivation` carries it. Here, without a memory,
  they go by the batch at hand.

  Args:
    x: pre-activations, real ``[b, ...]``, or ``[d]`` for one example.
    keep_ratio: real scalar, Python or traced; at 1 or more the result is the
      dense activation, bit for bit.
    activation: ``relu``, ``leakyrelu`` (slope 0.1), ``elu``, ``gelu`` (exact),
      ``silu``, ``softplus``, ``tanh``, ``identity``, ``squared_relu``,
      ``jsrelu``, ``jsrelu_linear``, ``s_relu``, ``s_jsrelu``, or a pointwise
      function.
    scope: ``global`` (per example) or ``channel`` (per position, last axis).
    score: rank by ``value`` or ``magnitude``; what is kept is always the
      activation itself. An activation whose negative values matter as much
      (``tanh``, ``identity``) wants ``magnitude``: by value all of them go
      first.
    axis: the axis or axes that share one budget, instead of ``scope``.
    implementation: as in :func:`topk_mask`.
    mask: see above.
    gradient: ``masked``, the derivative; ``straight_through``, which leaves the
      mask out of it; ``dense``, which leaves out the activation, too: see
      :func:`sparse_regimes.masks.gradients.kept`.

  Returns:
    The shape and dtype of ``x``.

  Raises:
    ValueError: for an unknown name; the message lists the choices.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import sparse_activation
    >>> sparse_activation(jnp.array([[-1.0, 3.0, 1.0, 2.0]]), 0.5)
    Array([[0., 3., 0., 2.]], dtype=float32)
    >>> sparse_activation(jnp.array([[4.0, 3.0, 1.0, 2.0]]), 0.5, mask="nm:2")
    Array([[4., 0., 0., 2.]], dtype=float32)

  Source: Wang, arXiv 2603.03131; of other masks see what they name.
  """
  x = jnp.asarray(x)
  if mask == "topk" and gradient == "masked":
    return topk_activation(
      x, keep_ratio, activation, scope, score, axis, implementation
    )
  return masked_activation(
    x,
    keep_ratio,
    None,
    trains=False,
    activation=activation,
    scope=scope,
    score=score,
    axis=axis,
    implementation=implementation,
    mask=mask,
    gradient=gradient,
  )[0]


def masked_activation(
  x: jax.Array,
  keep_ratio: ArrayLike,
  state: Any,
  *,
  trains: bool,
  activation: str | Activation,
  scope: str,
  score: str,
  axis: Axis | None,
  implementation: str | None,
  mask: str,
  gradient: str,
) -> tuple[jax.Array, Any]:
  """:func:`sparse_activation` with what its mask remembers.

  Args:
    x: see there, as are the others.
    keep_ratio: see there.
    state: what the mask remembers, or None.
    trains: whether it learns from this batch.
    activation: see there.
    scope: see there.
    score: see there.
    axis: see there.
    implementation: see there.
    mask: see there.
    gradient: see there.

  Returns:
    ``(y, state)``.
  """
  rule = make_rule(mask)
  one_of("score", score, SCORES)
  one_of("gradient", gradient, GRADIENTS)
  activated = get_activation(activation)(x)
  scores = jnp.abs(activated) if score == "magnitude" else activated

  def topk(scores: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return topk_mask(
      scores, keep_ratio, axis=axes, implementation=implementation
    )

  axes = budget_axes(x, axis, scope)
  site = Site(scores, as_ratio(keep_ratio), axes, state, trains, topk)
  new = state
  learns = trains and state is not None
  if learns and rule.prepare is not None:
    new = rule.prepare(site)
    # It goes by earlier batches; of the first one there are none.
    is_first = state.num_batches == 0
    site = site._replace(
      state=jax.tree.map(functools.partial(jnp.where, is_first), new, state)
    )
  if rule.subtracts is not None:
    cut = rule.subtracts(site)
    cut = jnp.where(jnp.isneginf(cut), jnp.zeros((), cut.dtype), cut)
    if score == "magnitude":
      cut = jnp.sign(activated) * cut
    activated = activated - cut
  still = site._replace(
    scores=jax.lax.stop_gradient(scores),
    state=jax.lax.stop_gradient(site.state),
  )
  chosen = rule.keeps(still)
  if learns and rule.learn is not None:
    new = rule.learn(still, chosen)
  return kept(x, activated, chosen, gradient), new


def check_site(
  activation: str | Activation,
  scope: str,
  score: str,
  implementation: str | None,
  mask: str,
  gradient: str,
) -> None:
  """Raises a ``ValueError`` naming the first field that is wrong."""
  get_activation(activation)
  check_scope(scope)
  one_of("score", score, SCORES)
  one_of("implementation", implementation, (None, *IMPLEMENTATIONS))
  make_rule(mask)
  one_of("gradient", gradient, GRADIENTS)
