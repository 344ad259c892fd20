"""A budget that never moves: the dense and the fixed-ratio baselines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.controllers.base import Controller
from sparse_regimes.errors import in_range


class ConstantState(NamedTuple):
  """``keep_ratio``: float32 scalar, or ``[num_sites]``."""

  keep_ratio: jax.Array


def constant(keep_ratio: ArrayLike | Sequence[float] = 1.0) -> Controller:
  """The same keep ratio at every step.

  .. math:: r_t = r_0

  Args:
    keep_ratio: in ``[0, 1]``, a scalar or one a site; 1 is the dense baseline.
      It may be traced.

  Returns:
    A :class:`Controller`.

  Raises:
    ValueError: for a ratio outside ``[0, 1]``.

  Example:
    >>> from sparse_regimes.controllers import constant
    >>> constant(0.25).init().keep_ratio
    Array(0.25, dtype=float32)

  Source: ours.
  """
  in_range("keep_ratio", keep_ratio, 0, 1)

  def init() -> ConstantState:
    return ConstantState(keep_ratio=jnp.asarray(keep_ratio, jnp.float32))

  def update(state: ConstantState, /, **_: Any) -> ConstantState:
    return state

  return Controller(init, update)
