"""What a run learns: the one interface between a run and its task."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import optax
from flax import linen as nn

from sparse_regimes.controllers import Controller
from sparse_regimes.errors import InputError
from sparse_regimes.references import is_reference
from sparse_regimes.training.step import TrainStep

# Arrays of examples by name, or what is indexed as arrays are.
Examples = Mapping[str, Any]


class Task(Protocol):
  """A task of one run, with its data.

  A class of this kind is made as ``Task(config, log, constants, **fields)``:
  the run's config, a function that takes a line at a time, the ``constants``
  of a run that has begun or None, and fields of the config's section ``task``,
  which are the arguments that have defaults. It raises an ``InputError`` for
  data that no run can train on.

  Three more methods are taken where a task has them: ``sweep``, for rows that
  say more than the evaluation does, ``measure``, for ``--mode=measure``, and
  ``inputs_of(batch)``, what the network takes of an evaluation's batch, for
  ``calibrate``; :class:`sparse_regimes.tasks.Classification` has them. And two
  static methods: ``rate(config)``, in what a pace is told to people and how
  many of it an example has: ``("tokens", 64)``; and
  ``updates_per_step(config)``, where its step calls the optimizer several
  times.

  Attributes:
    unit: what a batch is made of, for people: ``images``.
    metric: the name of what is measured beside the loss: ``accuracy``.
    choice: what the best epoch is best at: ``metric``, or ``loss``, of which
      less is better.
    source: where the examples come from, for people.
    num_train: examples of an epoch.
    arguments: of the model, that the task decides, such as ``num_classes``.
    inputs: shape and dtype of one example as the network takes it, with a
      leading axis of 1.
    train_examples: arrays on the host ``[num_train, ...]``; empty if the task
      makes its own.
    evaluation_sets: examples by the name of their set, of which there is
      ``test``; ``train`` shows the gap between the two; ``validation``, where
      there is one, chooses the best epoch.
    digest: a checksum of everything that decides a run.
    constants: what was computed from the training data and belongs to the run,
      such as a mean or a vocabulary: for JSON.

  Example:
    >>> from sparse_regimes.tasks import Classification, Task
    >>> class BestLoss(Classification):
    ...   choice = "loss"
    >>> task: type[Task] = BestLoss
    >>> task.unit, task.metric, task.choice
    ('images', 'accuracy', 'loss')
  """

  unit: str
  metric: str
  choice: str
  source: str
  num_train: int
  arguments: dict[str, Any]
  inputs: jax.ShapeDtypeStruct
  train_examples: Examples
  evaluation_sets: dict[str, Examples]
  digest: int
  constants: dict[str, Any]

  @staticmethod
  def check(config: Any) -> dict[str, Any]:
    """Raises an ``InputError`` for what is wrong before any data is read.

    Returns:
      Arguments to try the model with.
    """

  def batch(self, examples: Examples, index: jax.Array) -> Any:
    """The batch of the examples at ``index``, inside the compiled step."""

  def train_step(
    self,
    model: nn.Module,
    tx: optax.GradientTransformation,
    controller: Controller,
  ) -> TrainStep:
    """A step as of :func:`sparse_regimes.make_step`.

    Its metrics have ``loss``, ``metric`` by its name and ``nonzero``; among its
    signals is ``metric``, too.
    """

  def extra(self, key: jax.Array) -> Any:
    """What the state carries besides, before the first step; or None."""

  def eval_step(self, model: nn.Module) -> Any:
    """``step(state, batch, keep_ratio) -> sums``, compiled.

    The sums have ``count``, and ``loss``, ``metric`` by its name and
    ``nonzero``, an array or a dict by site, each times the count.
    """


def rate_of(task: Task | type[Task], config: Any) -> tuple[str, int]:
  """In what a pace is told to people, and how many of it an example has.

  Args:
    task: or its class.
    config: complete.

  Example:
    >>> from types import SimpleNamespace
    >>> from sparse_regimes.tasks import rate_of
    >>> rate_of(SimpleNamespace(unit="images"), None)
    ('images', 1)
  """
  rate = getattr(task, "rate", None)
  return (task.unit, 1) if rate is None else rate(config)


def gather(examples: Examples, index: jax.Array) -> dict[str, jax.Array]:
  """The examples at ``index``, of every array.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.tasks import gather
    >>> gather({"labels": jnp.array([3, 4, 5])}, jnp.array([2, 0]))["labels"]
    Array([5, 3], dtype=int32)
  """
  return {name: array[index] for name, array in examples.items()}


def check_names(
  config: Any, *, models: Sequence[str], signals: Sequence[str]
) -> None:
  """Raises an ``InputError`` for a model or a signal that is another task's.

  Args:
    config: complete.
    models: of the package that learn this; those of a file are free.
    signals: that the task's step has, as scalars.
  """
  where = f"where task.name is {config.task.name}, got"
  name = config.model.name
  if name not in models and not is_reference(name):
    raise InputError(
      f"model.name must be {', '.join(models)} or FILE.py:Name {where} {name}"
    )
  controller = config.controller
  signal = controller.get("signal", signals[0])
  # Of the step's signals this one is no scalar.
  follows_stats = controller.name == "ssd_switch" and signal == "stats"
  if is_reference(controller.name) or signal in signals or follows_stats:
    return
  raise InputError(
    f"controller.signal must be {' or '.join(signals)} {where} {signal}"
  )


def length(examples: Examples) -> int:
  """How many examples there are.

  Example:
    >>> from sparse_regimes.tasks import length
    >>> length({"labels": [3, 4, 5]})
    3
  """
  return len(next(iter(examples.values())))
