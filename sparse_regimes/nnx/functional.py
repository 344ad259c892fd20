"""An NNX model as variables and a function, as a step wants it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

Path = tuple[str, ...]


def functional(
  model: nnx.Module,
) -> tuple[dict[str, Any], Callable[..., Any]]:
  """An NNX model in the form of a Linen one: variables and ``apply``.

  ``make_train_step(apply_fn, ...)`` trains it with its batch norms, dropouts
  and random streams. The model itself is not changed.

  Args:
    model: called as ``model(inputs, keep_ratio)``, with ``train`` besides if it
      takes that. It returns ``(outputs, stats)``; or outputs alone, and stats
      are then the nonzero fractions of its
      :class:`sparse_regimes.nnx.SparseActivation` modules, by their path.

  Returns:
    ``variables``, nested dicts by collection: ``params`` of all ``nnx.Param``,
    ``batch_stats`` of ``nnx.BatchStat``, and so on, but no random streams. And
    ``apply_fn(variables, inputs, keep_ratio, *, train=False, rngs=None,
    mutable=False)``, which sets ``deterministic`` and ``use_running_average``
    to ``not train`` throughout, draws from ``rngs`` (by name; ``dropout``
    serves all other names), and returns ``(outputs, stats)``, with the
    collections of ``mutable`` besides, as Linen does.

  Raises:
    ValueError: on a call, if there are neither stats nor sites.

  Example:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> import sparse_regimes as sr
    >>> model = sr.nnx.ResidualMLP(48, width=16, depth=2, rngs=nnx.Rngs(0))
    >>> variables, apply_fn = sr.nnx.functional(model)
    >>> logits, stats = apply_fn(variables, jnp.ones((3, 4, 4, 3)), 0.5)
    >>> sorted(variables), logits.shape, stats.shape
    (['params'], (3, 10), (2,))

  Source: ours.
  """
  graph, state = nnx.split(model)
  leaves = {tuple(map(str, path)): (path, v) for path, v in flat(state)}
  takes_train = "train" in inspect.signature(type(model).__call__).parameters
  # A step may give the memory of these away; the model keeps its own.
  variables = jax.tree.map(jnp.copy, _collections(leaves))

  def apply_fn(
    variables: Mapping[str, Any],
    inputs: Any,
    keep_ratio: Any,
    *,
    train: bool = False,
    rngs: Mapping[str, jax.Array] | None = None,
    mutable: Any = False,
  ) -> Any:
    given = {
      path: value
      for collection in variables.values()
      for path, value in flatten_dict(collection).items()
    }
    streams = _streams(leaves, rngs or {})
    merged = nnx.merge(
      graph,
      nnx.from_flat_state(
        [
          (path, variable.replace({**given, **streams}[name]))
          for name, (path, variable) in leaves.items()
        ]
      ),
    )
    merged.set_attributes(
      deterministic=not train,
      use_running_average=not train,
      counts_nonzero=True,
      raise_if_not_found=False,
    )
    keywords = {"train": train} if takes_train else {}
    outputs = merged(inputs, keep_ratio, **keywords)
    counted = dict(flat(nnx.pop(merged, nnx.Intermediate)))
    if not isinstance(outputs, tuple):
      if not counted:
        raise ValueError(
          f"{type(model).__name__} must return (outputs, stats), or have"
          " sparse_regimes.nnx.SparseActivation modules to count"
        )
      outputs = outputs, _by_site(counted)
    if mutable is False:
      return outputs
    new = {
      tuple(map(str, path)): (path, v) for path, v in flat(nnx.state(merged))
    }
    updated = _collections(new)
    updated.pop("params", None)
    if mutable is not True:
      wanted = {mutable} if isinstance(mutable, str) else set(mutable)
      updated = {n: updated[n] for n in updated if n in wanted}
    return outputs, updated

  return variables, apply_fn


def flat(state: Any) -> list[tuple[Any, Any]]:
  """Paths and variables of a state."""
  return list(nnx.to_flat_state(state))


def _collections(leaves: Mapping[Path, tuple[Any, Any]]) -> dict[str, Any]:
  """Values by the kind of their variable, but for random streams."""
  found: dict[str, dict[Path, Any]] = {"params": {}}
  for name, (_, variable) in leaves.items():
    if isinstance(variable, nnx.RngState):
      continue
    is_param = isinstance(variable, nnx.Param)
    kind = "params" if is_param else _kind(type(variable))
    found.setdefault(kind, {})[name] = variable.get_value()
  return {kind: unflatten_dict(values) for kind, values in found.items()}


def _kind(variable_type: type) -> str:
  if variable_type is nnx.BatchStat:
    return "batch_stats"
  return variable_type.__name__.lower()


def _streams(
  leaves: Mapping[Path, tuple[Any, Any]], rngs: Mapping[str, jax.Array]
) -> dict[Path, Any]:
  """Keys and counts of the model's random streams, each drawing of its own.

  Without keys they are as they were.
  """
  streams = {}
  for i, (name, (_, variable)) in enumerate(leaves.items()):
    if not isinstance(variable, nnx.RngState):
      continue
    value = variable.get_value()
    key = rngs.get(getattr(variable, "tag", ""), rngs.get("dropout"))
    if key is not None:
      if isinstance(variable, nnx.RngKey):
        value = jax.random.split(jax.random.fold_in(key, i), value.shape)
      else:
        value = jnp.zeros_like(value)
    streams[name] = value
  return streams


def _by_site(counted: Mapping[Any, Any]) -> dict[str, jax.Array]:
  """Nonzero fractions by the path of a module; the mean of its calls."""
  return {
    "/".join(map(str, path[:-1])): jnp.mean(jnp.stack(variable.get_value()))
    for path, variable in counted.items()
  }
