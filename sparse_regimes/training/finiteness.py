"""Whether a step left every number finite."""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Learned(NamedTuple):
  """What a step changes of a state.

  Attributes:
    params: pytree.
    model_state: pytree, such as running averages.
    opt_state: pytree, of which parts may be shaped like ``params``.
  """

  params: Any
  model_state: Any
  opt_state: Any


def stays_finite(
  loss: jax.Array, grads: Any, new: Learned, old: Learned
) -> jax.Array:
  """Whether loss, gradient and parameters are finite, and no state lost it.

  What belongs to one parameter, its gradient, its moments, is looked at in one
  pass: a reduction each would be some hundred small programs a step.

  Args:
    loss: scalar.
    grads: pytree like the parameters.
    new: after the update.
    old: before it. A moment or a model state that was not finite before may
      stay so.

  Returns:
    bool, scalar.
  """
  by_parameter = [_are_finite(grads), _are_finite(new.params)]
  others = _stay_finite(new.model_state, old.model_state)
  structure: Any = jax.tree.structure(grads)

  def is_like(tree: Any) -> bool:
    return bool(structure == jax.tree.structure(tree))

  parts = (
    jax.tree.leaves(state, is_leaf=is_like)
    for state in (new.opt_state, old.opt_state)
  )
  for part, before in zip(*parts, strict=True):
    if is_like(part) and _shapes(part) == _shapes(grads):
      by_parameter.append(
        [
          _finite(a) | ~_finite(b)
          for a, b in zip(*map(jax.tree.leaves, (part, before)), strict=True)
        ]
      )
    else:
      # A scalar may say "none yet" by an infinity.
      others += _stay_finite(part, before, least_rank=1)
  together = [
    functools.reduce(operator.and_, conditions)
    for conditions in zip(*by_parameter, strict=True)
  ]
  return jnp.all(
    jnp.stack([jnp.all(c) for c in (jnp.isfinite(loss), *together, *others)])
  )


def _shapes(tree: Any) -> list[tuple[int, ...]]:
  return [jnp.shape(x) for x in jax.tree.leaves(tree)]


def _are_finite(tree: Any) -> list[jax.Array]:
  return [_finite(x) for x in jax.tree.leaves(tree)]


def _stay_finite(new: Any, old: Any, least_rank: int = 0) -> list[jax.Array]:
  """Of each array, whether what was finite is."""
  return [
    _finite(a) | ~_finite(b)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    if a.ndim >= least_rank and jnp.issubdtype(a.dtype, jnp.inexact)
  ]


def _finite(x: jax.Array) -> jax.Array:
  if jnp.issubdtype(x.dtype, jnp.inexact):
    return jnp.isfinite(x)
  return jnp.ones(jnp.shape(x), bool)
