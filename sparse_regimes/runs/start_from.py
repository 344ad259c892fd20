"""How a run begins with what another one learned."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sparse_regimes.errors import InputError
from sparse_regimes.runs import factory
from sparse_regimes.runs.mesh import described, state_shardings
from sparse_regimes.runs.past_run import describe_state, load_config, restore
from sparse_regimes.runs.workdir import stored_constants
from sparse_regimes.tasks import Task
from sparse_regimes.training.averaging import EMA
from sparse_regimes.training.state import TrainState
from sparse_regimes.tree import by_path, name_of

# What fine-tuning for sparsity adds, and what a restricted norm leaves out.
_MAY_DIFFER = ("/zeroth_bias", "/norm/bias")


def check_start(workdir: epath.Path, config: ConfigDict, task: Task) -> None:
  """Raises an ``InputError`` unless a run can begin with that one.

  Args:
    workdir: of the other run, ``train.start_from``.
    config: of the new run.
    task: of the new run; the other one had such examples, and as many classes.
  """
  parent = load_config(workdir, "best", argument="train.start_from")
  factory.check_parent(config, parent)
  theirs = (stored_constants(workdir) or {}).get("vocabulary")
  ours = task.constants.get("vocabulary")
  if theirs is not None and ours is not None and theirs != ours:
    differing = "".join(sorted(set(theirs) ^ set(ours)))
    raise InputError(
      f"train.start_from must be a run on text of the same characters, got"
      f" {workdir}, which differs in {differing!r}; with task.level=byte all"
      " texts have the same"
    )
  _, state = describe_state(config, task)
  _, past = describe_state(parent, task)
  _adopt_all(state, past, workdir)


def start_from(
  workdir: epath.Path,
  state: TrainState,
  tx: optax.GradientTransformation,
  task: Task,
  mesh: Mesh,
  log: Callable[[str], None],
) -> TrainState:
  """The state with parameters and statistics of another run's best checkpoint.

  Args:
    workdir: the other run's folder.
    state: before the first step.
    tx: the optimizer of ``state``.
    task: as for :func:`check_start`.
    mesh: of the new run.
    log: takes a line at a time.

  Raises:
    InputError: if there is no such checkpoint, or it is of another network:
      zeroth biases and biases of norms may differ.
  """
  config = load_config(workdir, "best", argument="train.start_from")
  _, template = describe_state(config, task)
  shardings = state_shardings(template, mesh, "replicated")
  past, journal = restore(workdir, "best", described(template, shardings), log)
  params, model_state, new, left = _adopt_all(state, past, workdir)
  log(
    f"start from  {workdir}, epoch {len(journal.records)};"
    f" new: {', '.join(new) or 'nothing'};"
    f" left out: {', '.join(left) or 'nothing'}"
  )
  params, model_state = jax.tree.map(
    jnp.asarray, jax.device_get((params, model_state))
  )
  extra = state.extra
  if extra and EMA in extra:
    extra = {**extra, EMA: params}
  # A rollback notes them.
  return state.replace(
    params=params,
    model_state=model_state,
    opt_state=tx.init(params),
    extra=extra,
  )


def _adopt_all(
  state: TrainState, past: TrainState, workdir: epath.Path
) -> tuple[Any, Any, list[str], list[str]]:
  """Parameters, statistics, and what is new and left out of the former."""
  try:
    params, new, left = adopt(state.params, past.params)
    model_state, _, _ = adopt(state.model_state, past.model_state)
    for does, names in (("lacks", new), ("has", left)):
      for name in names:
        if not name.endswith(_MAY_DIFFER):
          raise ValueError(f"that one {does} {name}")
  except ValueError as error:
    raise InputError(
      f"train.start_from must be a run of such a network, got {workdir}:"
      f" {error}"
    ) from error
  return params, model_state, new, left


def adopt(params: Any, past: Any) -> tuple[Any, list[str], list[str]]:
  """Parameters with those of a past run wherever it has them.

  Args:
    params: of the new network.
    past: of the one that was trained.

  Returns:
    Parameters of the structure of ``params``, the paths of those that are as
    they were, and of those of the past run that have no place.

  Raises:
    ValueError: if a parameter of both has another shape.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.runs.start_from import adopt
    >>> new, past = {"a": jnp.zeros(1), "b": jnp.zeros(1)}, {"a": jnp.ones(1)}
    >>> adopt(new, past)[1:]
    (['b'], [])
  """
  known = by_path(past)
  flat, tree = jax.tree_util.tree_flatten_with_path(params)
  taken, new = [], []
  for path, leaf in flat:
    name = name_of(path)
    if name not in known:
      new.append(name)
      taken.append(leaf)
      continue
    found = known.pop(name)
    if found.shape != leaf.shape:
      raise ValueError(
        f"{name} must have the shape {leaf.shape}, got {found.shape}"
      )
    taken.append(found)
  return jax.tree.unflatten(tree, taken), new, list(known)
