"""The masks by name: which entries survive, and what a mask remembers."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparse_regimes.errors import one_of
from sparse_regimes.masks import boosting, quantiles
from sparse_regimes.masks.budget import num_kept
from sparse_regimes.masks.experts import expert_mask
from sparse_regimes.masks.mass import max_p_mask, top_p_mask
from sparse_regimes.masks.n_m import n_m_mask
from sparse_regimes.masks.normal_cut import normal_cut


class Site(NamedTuple):
  """What a mask is made from.

  Attributes:
    scores: ``[..., channels]``; larger ones come first.
    keep_ratio: float32 scalar.
    axes: that share a budget.
    state: what the mask remembers, or None.
    trains: whether it is a batch to learn from.
    topk: ``(scores, axes) -> mask``: exact top-k at the keep ratio.
  """

  scores: jax.Array
  keep_ratio: jax.Array
  axes: tuple[int, ...]
  state: Any
  trains: bool
  topk: Callable[[jax.Array, tuple[int, ...]], jax.Array]


class Rule(NamedTuple):
  """A mask by what it does.

  Attributes:
    keeps: ``keeps(site) -> mask``, bool, of the scores' shape.
    begin: ``begin(channels) -> state``, what it remembers at first; None where
      it remembers nothing.
    learn: ``learn(site, mask) -> state`` after a batch; of a rule whose mask
      needs the batch first, ``prepare(site) -> state`` before it.
    prepare: see ``learn``.
    subtracts: ``subtracts(site) -> cut``: what survives is lowered by it.
  """

  keeps: Callable[[Site], jax.Array]
  begin: Callable[[int], Any] | None = None
  learn: Callable[[Site, jax.Array], Any] | None = None
  prepare: Callable[[Site], Any] | None = None
  subtracts: Callable[[Site], jax.Array] | None = None


# Names, with what comes behind a colon.
MASKS = {
  "topk": "",
  "nm": "M",
  "threshold": "channel, a number, or nothing",
  "statistical": "soft, or nothing",
  "top_p": "",
  "max_p": "",
  "batch_topk": "",
  "expert": "GROUPS",
  "kwinners": "STRENGTH",
}


def make_rule(name: str) -> Rule:
  """The mask of a name, such as ``topk``, ``nm:4`` or ``statistical:soft``.

  See :func:`sparse_regimes.sparse_activation` for what they do.

  Raises:
    ValueError: naming ``mask``, for one that there is not.

  Example:
    >>> from sparse_regimes.masks.rules import make_rule
    >>> make_rule("nm:4").begin is None, make_rule("threshold").begin is None
    (True, False)
  """
  kind, _, argument = str(name).partition(":")
  one_of("mask", kind, MASKS)
  try:
    return _RULES[kind](argument)
  except (ValueError, TypeError) as error:
    form = f"{kind}:{MASKS[kind]}" if MASKS[kind] else kind
    raise ValueError(f"mask must be {form}, got {name!r}") from error


def remembers(name: str) -> bool:
  """Whether a mask has a state, which a network carries beside its weights."""
  return make_rule(name).begin is not None


def _none(argument: str) -> None:
  if argument:
    raise ValueError(argument)


def _whole(argument: str) -> int:
  if not argument.isdigit() or not 0 < int(argument) < 2**16:
    raise ValueError(argument)
  return int(argument)


def _topk(argument: str) -> Rule:
  _none(argument)
  return Rule(lambda site: site.topk(site.scores, site.axes))


def _nm(argument: str) -> Rule:
  m = _whole(argument)

  def keeps(site: Site) -> jax.Array:
    channels = site.scores.shape[-1]
    if channels % m:
      raise ValueError(
        f"mask nm:{m} must have an M that divides the {channels} channels of a"
        " site"
      )
    return n_m_mask(site.scores, num_kept(m, site.keep_ratio), m)

  return Rule(keeps)


def _threshold(argument: str) -> Rule:
  if argument not in ("", "channel"):
    fixed = float(argument)
    if not math.isfinite(fixed):
      raise ValueError(argument)
    return Rule(lambda s: (s.scores > fixed) | (s.keep_ratio >= 1))

  def begin(channels: int) -> quantiles.Quantiles:
    return quantiles.no_quantiles(channels if argument else None)

  def keeps(site: Site) -> jax.Array:
    return _above_threshold(site, by_channel=bool(argument))

  return Rule(
    keeps,
    begin,
    prepare=lambda site: quantiles.learned(site.state, site.scores),
  )


def _above_threshold(site: Site, *, by_channel: bool = False) -> jax.Array:
  state = site.state
  if state is None:
    # Without a memory it is that of the batch itself.
    table = quantiles.quantiles_of(site.scores, by_channel=by_channel)
    state = quantiles.Quantiles(table, jnp.ones((), jnp.int32))
  cut = quantiles.threshold(state, site.keep_ratio)
  return _above(site.scores, cut)


def _above(scores: jax.Array, cut: jax.Array) -> jax.Array:
  if cut.ndim == 1:
    cut = cut.reshape((1,) * (scores.ndim - 1) + cut.shape)
  wide = scores.dtype if scores.dtype.itemsize >= 4 else jnp.float32
  return (scores.astype(wide) > cut.astype(wide)) | jnp.isneginf(cut)


def _statistical(argument: str) -> Rule:
  one_of("statistical", argument, ("", "soft"))

  def cut(site: Site) -> jax.Array:
    return normal_cut(site.scores, site.keep_ratio, axis=site.axes)

  def keeps(site: Site) -> jax.Array:
    return _above(site.scores, jax.lax.stop_gradient(cut(site)))

  return Rule(keeps, subtracts=cut if argument else None)


def _top_p(argument: str) -> Rule:
  _none(argument)
  return Rule(lambda s: top_p_mask(s.scores, s.keep_ratio, axis=s.axes))


def _max_p(argument: str) -> Rule:
  _none(argument)
  return Rule(lambda s: max_p_mask(s.scores, 1 - s.keep_ratio, axis=s.axes))


def _batch_topk(argument: str) -> Rule:
  _none(argument)

  def keeps(site: Site) -> jax.Array:
    if site.trains or site.state is None:
      return site.topk(site.scores, tuple(range(site.scores.ndim)))
    return _above_threshold(site)

  return Rule(
    keeps,
    lambda _: quantiles.no_quantiles(),
    prepare=lambda site: quantiles.learned(site.state, site.scores),
  )


def _expert(argument: str) -> Rule:
  groups = _whole(argument)

  def keeps(site: Site) -> jax.Array:
    channels = site.scores.shape[-1]
    if channels % groups:
      raise ValueError(
        f"mask expert:{groups} must have groups that divide the {channels}"
        " channels of a site"
      )
    size = channels // groups
    shape = (*site.scores.shape[:-1], groups, size)
    held = jnp.sum(jnp.abs(site.scores.reshape(shape)), axis=-1)
    return expert_mask(held, site.keep_ratio, size)

  return Rule(keeps)


def _kwinners(argument: str) -> Rule:
  strength = float(argument or "nan")
  if not 0 <= strength < math.inf:
    raise ValueError(argument)

  def keeps(site: Site) -> jax.Array:
    scores = site.scores
    if site.state is not None:
      scores = boosting.boosted(scores, site.state, strength)
    return site.topk(scores, site.axes)

  return Rule(
    keeps,
    lambda channels: jnp.zeros(channels, jnp.float32),
    learn=lambda site, mask: boosting.duty_after(
      site.state, mask & (site.scores != 0)
    ),
  )


_RULES: dict[str, Callable[[str], Rule]] = {
  "topk": _topk,
  "nm": _nm,
  "threshold": _threshold,
  "statistical": _statistical,
  "top_p": _top_p,
  "max_p": _max_p,
  "batch_topk": _batch_topk,
  "expert": _expert,
  "kwinners": _kwinners,
}
