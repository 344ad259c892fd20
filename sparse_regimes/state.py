"""Everything that training carries from one step to the next."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from sparse_regimes.controllers import Controller


class TrainState(struct.PyTreeNode):
  """A pytree of arrays alone; what is static is closed over by the step.

  Attributes:
    step: updates made so far, int32 scalar.
    params: of the network.
    batch_stats: running statistics; empty for a network that has none.
    opt_state: of the optimizer.
    controller_state: of the controller; its ``keep_ratio`` is in force.
    rng: a typed key; step t draws from ``fold_in(rng, t)``.

  Example:
    >>> from sparse_regimes import controllers
    >>> state = TrainState.create(
    ...   {"params": {"w": jnp.ones(2)}},
    ...   tx=optax.sgd(0.1),
    ...   controller=controllers.constant(0.5),
    ...   rng=jax.random.key(0),
    ... )
    >>> state.step, state.controller_state.keep_ratio
    (Array(0, dtype=int32), Array(0.5, dtype=float32))
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: optax.OptState
  controller_state: Any
  rng: jax.Array

  @classmethod
  def create(
    cls,
    variables: Any,
    *,
    tx: optax.GradientTransformation,
    controller: Controller,
    rng: jax.Array,
  ) -> "TrainState":
    """The state before the first step.

    Args:
      variables: what ``model.init`` returned: ``params`` and, if the network
        has running statistics, ``batch_stats``. They become part of the state,
        and so are gone when a step is given the state to reuse its memory.
      tx: the optimizer.
      controller: the keep ratio's controller.
      rng: a key of ``jax.random.key``.
    """
    return cls(
      step=jnp.zeros((), jnp.int32),
      params=variables["params"],
      batch_stats=variables.get("batch_stats", {}),
      opt_state=tx.init(variables["params"]),
      controller_state=controller.init(),
      rng=rng,
    )

  @property
  def variables(self) -> dict[str, Any]:
    """The collections that ``model.apply`` takes."""
    return {"params": self.params, "batch_stats": self.batch_stats}
