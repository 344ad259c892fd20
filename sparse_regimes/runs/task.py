"""The task that a config names, and whether a run can train on it."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from sparse_regimes.errors import InputError, one_line, section_of
from sparse_regimes.references import is_reference
from sparse_regimes.runs.factory import Parts
from sparse_regimes.runs.makers import maker
from sparse_regimes.tasks import Task
from sparse_regimes.training.state import TrainState


def make_task(
  config: ConfigDict,
  log: Callable[[str], None],
  constants: Mapping[str, Any] | None = None,
) -> Task:
  """The task of ``config.task``, with its data, fetched if it has to be.

  Args:
    config: the whole config.
    log: takes a line at a time.
    constants: that the run has from its beginning.

  Raises:
    InputError: for data that is not there or that no run can train on.
  """
  with section_of("task"):
    given = config.task.to_dict()
    make = maker("task", given.pop("name"))
    task = make(config, log, constants, **given)
  if is_reference(config.task.name):
    check_task(task, config.task.name)
  return task


_OF_A_TASK = tuple(Task.__annotations__) + tuple(
  name for name, value in vars(Task).items() if inspect.isfunction(value)
)


def check_task(task: Task, name: str) -> None:
  """Raises an ``InputError`` for a task that lacks what a run asks of it."""
  missing = [
    field
    for field in _OF_A_TASK
    if not field.startswith("_") and not hasattr(task, field)
  ]
  if missing:
    raise InputError(
      f"task.name: {name} lacks {', '.join(missing)}; see"
      " sparse_regimes.tasks.Task"
    )
  if "test" not in task.evaluation_sets:
    raise InputError(f"task.name: the evaluation_sets of {name} have no test")
  if task.choice not in (task.metric, "loss"):
    raise InputError(
      f"task.name: the choice of {name} must be {task.metric} or loss, got"
      f" {task.choice!r}"
    )


def check_steps(
  config: ConfigDict, task: Task, parts: Parts, state: TrainState
) -> None:
  """Traces a task's steps; an ``InputError`` says what does not fit.

  Args:
    config: the whole config.
    task: from outside the package, which nobody has tried.
    parts: of the run.
    state: its shapes and dtypes.
  """

  def described(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)

  index = jax.ShapeDtypeStruct((config.train.batch_size,), jnp.int32)
  examples = {n: described(x) for n, x in task.train_examples.items()}
  tested = {
    n: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype)
    for n, x in task.evaluation_sets["test"].items()
  }
  try:
    train_step = task.train_step(parts.model, parts.tx, parts.controller)
    batch = jax.eval_shape(task.batch, examples, index)
    _, metrics = jax.eval_shape(train_step, state, batch)
    sums = jax.eval_shape(task.eval_step(parts.model), state, tested, 1.0)
  except Exception as error:  # of somebody else's code: anything
    raise InputError(
      f"task.name: a step of {config.task.name} cannot be traced:"
      f" {type(error).__name__}: {one_line(error)}"
    ) from error
  for what, found, wanted in (
    ("metrics of the train_step", metrics, ("loss", task.metric, "nonzero")),
    ("eval_step", sums, ("count", "loss", task.metric, "nonzero")),
  ):
    if missing := [name for name in wanted if name not in found]:
      raise InputError(
        f"task.name: the {what} of {config.task.name} must have"
        f" {', '.join(wanted)}, and has no {', '.join(missing)}"
      )
