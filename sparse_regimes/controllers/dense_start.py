"""A controller that waits while the network is dense."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparse_regimes.controllers.base import Controller, chosen, total_budget
from sparse_regimes.controllers.bounds import MAX_COUNT
from sparse_regimes.errors import in_range


class DenseStartState(NamedTuple):
  """A controller's state, and how long it still waits.

  Attributes:
    controller: state of the controller that waits.
    keep_ratio: the budget in force, float32; ``[num_sites]`` where it is so.
    left: dense batches to come, int32 scalar.
  """

  controller: Any
  keep_ratio: jax.Array
  left: jax.Array

  @property
  def total(self) -> jax.Array:
    """The budget of all sites together."""
    return jnp.where(self.left > 0, 1.0, total_budget(self.controller))


def dense_start(controller: Controller, steps: int = 1000) -> Controller:
  r"""The first batches dense, of which the controller does not hear.

  .. math:: r_t = 1 \text{ for } t \le T, \quad
     r_t = \text{the controller's, as begun at batch } T + 1

  At its start a ReLU network is about half active, and soon much sparser: a
  mask that begins at once cuts into what is not yet settled.

  Args:
    controller: what decides the budget after it.
    steps: T, dense batches, at least 0. A skipped step, of which no signal is
      finite, is none.

  Returns:
    A :class:`Controller` with :class:`DenseStartState`.

  Raises:
    ValueError: for a value outside its range.

  Example:
    >>> from sparse_regimes import controllers
    >>> from sparse_regimes.controllers import dense_start
    >>> controller = dense_start(controllers.constant(0.25), steps=2)
    >>> state = controller.init()
    >>> for _ in range(3):
    ...   print(state.keep_ratio)
    ...   state = controller.update(state, loss=1.0)
    1.0
    1.0
    0.25

  Source: the first 1,000 steps of Haziza et al., "Accelerating Transformer
    Inference and Training with 2:4 Activation Sparsity", arXiv 2503.16672.
  """
  in_range("steps", steps, 0, MAX_COUNT)

  def with_budget(inner: Any, left: jax.Array) -> DenseStartState:
    return DenseStartState(
      controller=inner,
      keep_ratio=jnp.where(left > 0, 1.0, inner.keep_ratio),
      left=left,
    )

  def init() -> DenseStartState:
    return with_budget(controller.init(), jnp.full((), steps, jnp.int32))

  def update(state: DenseStartState, /, **signals: Any) -> DenseStartState:
    waits = state.left > 0
    leaves = [jnp.asarray(x, jnp.float32) for x in jax.tree.leaves(signals)]
    is_heard = jnp.array(not leaves)
    for leaf in leaves:
      is_heard |= jnp.any(jnp.isfinite(leaf))
    new = controller.update(state.controller, **signals)
    return with_budget(
      chosen(~waits, new, state.controller),
      state.left - (waits & is_heard).astype(jnp.int32),
    )

  return Controller(init, update)
