"""The classification of images, as a task of a run."""

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from sparse_regimes.analysis.budget_sweep import make_sweep_step, sweep
from sparse_regimes.analysis.network import measure_state
from sparse_regimes.controllers import Controller
from sparse_regimes.data import named
from sparse_regimes.data.dataset import Dataset, Normalize
from sparse_regimes.errors import InputError, in_range, one_of, section_of
from sparse_regimes.references import is_reference, resolve
from sparse_regimes.tasks.base import Examples, check_names, gather
from sparse_regimes.tasks.classification import splits
from sparse_regimes.training.augment import augmented
from sparse_regimes.training.classification import classification_loss
from sparse_regimes.training.eval_step import EvalStep, make_eval_step
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.training.step import TrainStep, make_step

# Bytes of the images of a set that is read as it is needed that are looked at.
_LOOKED_AT = 1 << 20


class Classification:
  """Images and labels; a :class:`sparse_regimes.tasks.Task`.

  Args:
    config: the run's; it reads ``data``, ``augment``, ``eval`` and
      ``train.batch_size``.
    log: takes a line at a time.
    constants: of :attr:`constants`, where the run has them already.
    loss: ``cross_entropy``, or ``FILE.py:function`` or ``module:function`` of
      logits and labels, which returns a loss for each label.

  Raises:
    InputError: for data that is not there or that no run can train on.

  Example:
    >>> from sparse_regimes.runs import config
    >>> from sparse_regimes.tasks import Classification
    >>> task = Classification(config.load("smoke"), print)
    >>> task.num_train, task.inputs.shape, list(task.evaluation_sets)
    (1280, (1, 32, 32, 3), ['test', 'train'])
  """

  unit = "images"
  metric = "accuracy"
  choice = "accuracy"

  def __init__(
    self,
    config: Any,
    log: Callable[[str], None],
    constants: Mapping[str, Any] | None = None,
    loss: str = "cross_entropy",
  ):
    self._loss_fn = _loss_fn(loss)
    self._augment = config.augment.to_dict()
    self._is_own = is_reference(config.model.name)
    scale = None
    if constants:
      scale = Normalize(tuple(constants["mean"]), tuple(constants["std"]))
    data = splits.load(config, log, scale)
    self.data: Dataset = data.train
    self._scale = data.train.preprocess
    self.source = data.train.source
    self.num_train = len(data.train.train_labels)
    self.arguments = {"num_classes": data.train.num_classes}
    shape = data.train.train_images.shape[1:]
    self.inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    self.train_examples = _examples(
      data.train.train_images, data.train.train_labels
    )
    seen = min(config.eval.num_train, self.num_train)
    self.evaluation_sets = {
      "test": _examples(data.train.test_images, data.train.test_labels),
      "train": {n: x[:seen] for n, x in self.train_examples.items()},
      **{name: _examples(*pair) for name, pair in data.others.items()},
    }
    self.digest = _digest(self.train_examples, *self.evaluation_sets.values())

  @property
  def constants(self) -> dict[str, Any]:
    """What was computed from the training images and belongs to the run."""
    return {"mean": list(self._scale.mean), "std": list(self._scale.std)}

  @staticmethod
  def check(config: Any) -> dict[str, Any]:
    """See :meth:`sparse_regimes.tasks.Task.check`."""
    check_names(
      config,
      models=["wide_resnet", "vision_transformer", "residual_mlp"],
      signals=["accuracy", "loss"],
    )
    _loss_fn(config.task.get("loss", "cross_entropy"))
    with section_of("augment"):
      augmented(_no_loss, num_classes=1, **config.augment)
    with section_of("data"):
      one_of("evaluate_on", config.data.evaluate_on, ("test", "validation"))
      named.check_name(config.data.name)
      in_range("image_size", config.data.image_size, 0, 4096)
      in_range("num_validation", config.data.num_validation, 0, 10**9)
    splits.check_sets(config)
    # Of others the numbers are known when they are read.
    if config.data.name in named.SIZES:
      splits.check_batch(config, named.SIZES[config.data.name])
    return {"num_classes": 1}

  def inputs_of(self, batch: Any) -> jax.Array:
    """What the network takes of a batch of an evaluation set."""
    return self._scale(batch["images"])

  def batch(self, examples: Examples, index: jax.Array) -> dict[str, jax.Array]:
    """The images and labels at ``index``."""
    return gather(examples, index)

  def train_step(
    self,
    model: nn.Module,
    tx: optax.GradientTransformation,
    controller: Controller,
  ) -> TrainStep:
    """A step on augmented batches."""
    if self._is_own and self._loss_fn is cross_entropy:
      self._check_outputs(model)
    with section_of("augment"):
      loss_fn = augmented(
        classification_loss(
          model.apply, loss_fn=self._loss_fn, preprocess=self._scale
        ),
        num_classes=self.arguments["num_classes"],
        **self._augment,
      )
    return make_step(loss_fn, tx, controller)

  def _check_outputs(self, model: nn.Module) -> None:
    """Raises an ``InputError`` for a network that does not tell the classes."""
    wanted = (1, self.arguments["num_classes"])
    variables = jax.eval_shape(model.init, jax.random.key(0), self.inputs, 1.0)
    logits, _ = jax.eval_shape(
      functools.partial(model.apply, train=False), variables, self.inputs, 1.0
    )
    if logits.shape != wanted:
      raise InputError(
        f"model.name: outputs for inputs {[*self.inputs.shape]} must have the"
        f" shape {[*wanted]}, a number for each class, got"
        f" {[*logits.shape]}; x.reshape(len(x), -1) makes vectors of images"
      )

  def extra(self, key: jax.Array) -> None:
    """Nothing."""

  def eval_step(self, model: nn.Module) -> EvalStep:
    """Of labels that count, see :func:`sparse_regimes.make_eval_step`."""
    return make_eval_step(
      model.apply, loss_fn=self._loss_fn, preprocess=self._scale
    )

  def sweep(
    self,
    model: nn.Module,
    state: Any,
    batches: Sequence[Any],
    keep_ratios: Sequence[Any],
    on_ratio: Callable[[dict[str, Any]], None] = lambda row: None,
  ) -> list[dict[str, Any]]:
    """See :func:`sparse_regimes.analysis.budget_sweep.sweep`."""
    step = make_sweep_step(model.apply, preprocess=self._scale)
    return sweep(step, state, batches, keep_ratios, on_ratio)

  def measure(
    self,
    model: nn.Module,
    state: Any,
    *,
    num_examples: int,
    flat: tuple[float, float] | None = None,
    hessian_samples: int = 0,
  ) -> dict[str, Any]:
    """See :func:`sparse_regimes.analysis.network.measure_state`."""
    return measure_state(
      model,
      state,
      self.data,
      num_images=num_examples,
      flat=flat,
      hessian_samples=hessian_samples,
    )


def _examples(images: Any, labels: np.ndarray) -> Examples:
  return {"images": images, "labels": labels}


def _loss_fn(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
  if is_reference(name):
    return resolve(name, "task.loss")
  with section_of("task"):
    one_of("loss", name, ("cross_entropy", "FILE.py:function"))
  return cross_entropy


def _no_loss(*_: Any, **__: Any) -> tuple[jax.Array, dict[str, Any]]:
  return jnp.zeros(()), {}


def _digest(*sets: Examples) -> int:
  """Of all images and labels; of what is read when wanted, of the first."""
  checksum = 0
  for array in (x for examples in sets for x in examples.values()):
    if not isinstance(array, np.ndarray):
      each = max(1, int(np.prod(array.shape[1:])))
      array = np.asarray(array[: max(1, _LOOKED_AT // each)])
    checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
  return checksum
