"""Everything that training carries from one step to the next."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import core, serialization, struct

from sparse_regimes.controllers import Controller


class TrainState(struct.PyTreeNode):
  """A pytree of arrays alone; what is static is closed over by the step.

  Attributes:
    step: steps made so far, int32 scalar.
    params: of the network.
    model_state: its other collections by name, such as ``batch_stats``; empty
      for a network that has none.
    opt_state: of the optimizer.
    controller_state: of the controller; its ``keep_ratio`` is in force.
    rng: a typed key; step t draws from ``fold_in(rng, t)``.
    extra: what a project carries besides, such as an average of the parameters;
      a step hands it on as it is.

  ``flax.serialization.to_bytes`` and ``from_bytes`` take it; its keys are
  written as their data.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from sparse_regimes import TrainState, controllers
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
  model_state: Any
  opt_state: optax.OptState
  controller_state: Any
  rng: jax.Array
  extra: Any = None

  @classmethod
  def create(
    cls,
    variables: Mapping[str, Any],
    *,
    tx: optax.GradientTransformation,
    controller: Controller,
    rng: jax.Array,
    extra: Any = None,
  ) -> "TrainState":
    """The state before the first step.

    Args:
      variables: what ``model.init`` returned: ``params`` and any other
        collections; a ``FrozenDict`` is unfrozen. They become part of the
        state, and so are gone when a step is given the state to reuse its
        memory. An array that stands in the state twice is copied.
      tx: the optimizer.
      controller: the keep ratio's controller.
      rng: a key of ``jax.random.key``, or of ``jax.random.PRNGKey``.
      extra: any pytree of arrays.

    Raises:
      ValueError: for variables without ``params``, what is no controller, or
        no key.
    """
    if not isinstance(variables, Mapping) or "params" not in variables:
      names = list(variables) if isinstance(variables, Mapping) else variables
      raise ValueError(
        f"variables must have the collection params, got {names!r};"
        " {'params': params} makes one of parameters alone"
      )
    collections = {name: unfrozen(value) for name, value in variables.items()}
    params = collections.pop("params")
    if not hasattr(rng, "dtype"):
      raise ValueError(f"rng must be a key of jax.random.key, got {rng!r}")
    if not _is_key(rng):
      rng = jax.random.wrap_key_data(rng)
    if not hasattr(controller, "init") or not hasattr(controller, "update"):
      name = getattr(controller, "__name__", repr(controller))
      raise ValueError(
        "controller must be one, such as controllers.strategy1(), got"
        f" {name}{': call it' * callable(controller)}"
      )
    state = cls(
      step=jnp.zeros((), jnp.int32),
      params=params,
      model_state=collections,
      # Numbers that these hold themselves are not to be given away.
      opt_state=jax.tree.map(_own_scalar, tx.init(params)),
      controller_state=jax.tree.map(jnp.copy, controller.init()),
      rng=jnp.copy(rng),
      extra=extra,
    )
    return _without_aliases(jax.tree.map(_as_array, state))

  @property
  def batch_stats(self) -> Any:
    """Running statistics; empty for a network that has none."""
    return self.model_state.get("batch_stats", {})

  @property
  def variables(self) -> dict[str, Any]:
    """The collections that ``model.apply`` takes."""
    return {"params": self.params, **self.model_state}


def unfrozen(tree: Any) -> Any:
  """The same of plain dicts: a ``FrozenDict`` is another kind of tree."""
  if isinstance(tree, (dict, core.FrozenDict)):
    return {name: unfrozen(value) for name, value in tree.items()}
  return tree


def _without_aliases(state: TrainState) -> TrainState:
  """Copies what is there twice, because memory can be given away only once."""
  seen: set[Any] = set()

  def own(x: Any) -> Any:
    is_here = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
    if not is_here or _is_key(x) or not x.size or not x.is_fully_addressable:
      return x
    buffers = [s.data.unsafe_buffer_pointer() for s in x.addressable_shards]
    if seen.intersection(buffers):
      x = jnp.copy(x)
      buffers = [s.data.unsafe_buffer_pointer() for s in x.addressable_shards]
    seen.update(buffers)
    return x

  return jax.tree.map(own, state)


def _own_scalar(x: Any) -> Any:
  return jnp.copy(x) if isinstance(x, jax.Array) and not x.ndim else x


def _as_array(x: Any) -> Any:
  return x if isinstance(x, jax.Array) else jnp.asarray(x)


def _is_key(x: Any) -> bool:
  return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _replace(state: TrainState, **fields: Any) -> TrainState:
  """The state with other fields; an array that is in it twice is copied."""
  return _without_aliases(dataclasses.replace(state, **fields))


# Flax gives a dataclass its own when it is defined.
TrainState.replace = _replace  # type: ignore[assignment, method-assign]


def _to_state_dict(state: TrainState) -> dict[str, Any]:
  plain = jax.tree.map(
    lambda x: jax.random.key_data(x) if _is_key(x) else x, state
  )
  return {
    name: serialization.to_state_dict(getattr(plain, name))
    for name in TrainState.__dataclass_fields__
  }


def _from_state_dict(target: TrainState, content: dict[str, Any]) -> TrainState:
  missing = set(TrainState.__dataclass_fields__) ^ set(content)
  if missing:
    raise ValueError(
      f"a TrainState was to be read, but {', '.join(sorted(missing))} is not in"
      " both what was written and what it is read into"
    )
  plain = jax.tree.map(
    lambda x: jax.random.key_data(x) if _is_key(x) else x, target
  )
  read = TrainState(
    **{
      name: serialization.from_state_dict(
        getattr(plain, name), content[name], name=name
      )
      for name in TrainState.__dataclass_fields__
    }
  )
  return jax.tree.map(
    lambda x, like: (
      jax.random.wrap_key_data(
        jnp.asarray(np.asarray(x)), impl=jax.random.key_impl(like)
      )
      if _is_key(like)
      else x
    ),
    read,
    target,
  )


serialization.register_serialization_state(
  TrainState, _to_state_dict, _from_state_dict, override=True
)
