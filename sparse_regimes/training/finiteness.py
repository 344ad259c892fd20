"""Whether a step left every number finite."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Learned(NamedTuple):
  """What a step changes of a state.

  Attributes:
    params: pytree.
    model_state: pytree, such as running averages.
    opt_state: pytree, with the moments of ``params``.
  """

  params: Any
  model_state: Any
  opt_state: Any


def stays_finite(
  loss: jax.Array, grads: Any, new: Learned, old: Learned
) -> jax.Array:
  """Whether loss, gradient and parameters are finite, and no state lost it.

  Each array is looked at by itself. Together with its moments a gradient would
  be fused with them, and added up in one order in a program that gathers its
  batch and in another one in a program that is given it.

  Args:
    loss: scalar.
    grads: pytree like the parameters.
    new: after the update.
    old: before it. A moment or a model state that was not finite before may
      stay so.

  Returns:
    bool, scalar.
  """
  conditions = [
    *_are_finite((loss, grads, new.params)),
    *_stay_finite(new.model_state, old.model_state),
    # A scalar may say "none yet" by an infinity.
    *_stay_finite(new.opt_state, old.opt_state, least_rank=1),
  ]
  return jnp.all(jnp.stack([jnp.all(c) for c in conditions]))


def _are_finite(tree: Any) -> list[jax.Array]:
  return [jnp.isfinite(x) for x in jax.tree.leaves(tree) if _is_float(x)]


def _stay_finite(new: Any, old: Any, least_rank: int = 0) -> list[jax.Array]:
  """Of each array, whether what was finite is."""
  return [
    jnp.isfinite(a) | ~jnp.isfinite(b)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    if a.ndim >= least_rank and _is_float(a)
  ]


def _is_float(x: jax.Array) -> bool:
  return jnp.issubdtype(x.dtype, jnp.inexact)
