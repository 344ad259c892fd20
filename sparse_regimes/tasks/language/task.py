"""The next token of a text, as a task of a run."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from sparse_regimes.analysis.budget_sweep import make_sweep_step, sweep
from sparse_regimes.controllers import Controller
from sparse_regimes.data import text as texts
from sparse_regimes.errors import InputError, in_range, one_of, section_of
from sparse_regimes.tasks.base import Examples, check_names, gather
from sparse_regimes.training.classification import classification_loss
from sparse_regimes.training.eval_step import EvalStep, make_eval_step
from sparse_regimes.training.step import TrainStep, make_step

# Tokens of a text that is read as it is needed that are looked at.
_LOOKED_AT = 1 << 20
# Fields of other tasks, at what they are where nobody sets them.
_UNUSED = {
  "data.image_size": 0,
  "data.evaluate_on": "test",
  "augment.crop": 0,
  "augment.flip": False,
  "augment.mixup_alpha": 0.0,
  "augment.label_smoothing": 0.0,
  "eval.sets": "",
}


class Language:
  """Text, of which the next token is learned.

  An epoch's examples are parts of the text, one behind the other, each with a
  context more at its end. In each step the window that is learned begins at a
  random place of its part, so that over the epochs every window is met. Test
  windows lie one behind the other.

  Args:
    config: the run's; it reads ``data.name``, ``data.dir``, ``data.stream``,
      ``data.num_train`` (windows of an epoch, from all over the text; 0: as
      many as go into it), ``data.num_test`` (the first test windows; 0: all),
      ``data.num_validation`` (windows at the end of the training text that
      choose the best epoch), ``eval.num_train`` and ``train.batch_size``.
    log: takes a line at a time.
    constants: of :attr:`constants`, where the run has them already.
    level: ``character`` or ``byte``: what a token is.
    context: tokens that the network sees at once.

  Raises:
    InputError: for a text that is not there or that no run can train on.

  Example:
    >>> from sparse_regimes.runs import config
    >>> from sparse_regimes.tasks import Language
    >>> settings = config.load("lm_quickstart", ["data.num_train=100"])
    >>> task = Language(settings, print, context=64)
    >>> task.num_train, task.inputs.shape, list(task.evaluation_sets)
    (100, (1, 64), ['test', 'train'])
  """

  unit = "windows"
  metric = "accuracy"
  choice = "loss"

  def __init__(
    self,
    config: Any,
    log: Callable[[str], None],
    constants: Mapping[str, Any] | None = None,
    level: str = "character",
    context: int = 128,
  ):
    del log
    self._context = context
    text = texts.load(
      config.data.name,
      config.data.dir,
      level=level,
      stream=config.data.stream,
      vocabulary=(constants or {}).get("vocabulary", ""),
    )
    self.text = text
    # A nat of a token, in bits of a byte.
    self._bits = 1 / (math.log(2) * text.bytes_per_token)
    self.source = text.source
    held_out = config.data.num_validation
    end = len(text.train)
    if held_out:
      end -= held_out * context + 1
    learned = _part(text.train, 0, end)
    # The parts of an epoch, which together are all of the text.
    rest = max(0, end - context)
    number = config.data.num_train or rest // context
    self._stride = max(1, -(-rest // max(1, number)))
    starts = np.arange(min(number, rest)) * rest // max(1, min(number, rest))
    train = texts.Windows(learned, self._stride + context, starts)
    self.num_train = len(train)
    self._check(config)
    self.arguments = {"vocabulary": text.num_tokens, "context": context}
    self.inputs = jax.ShapeDtypeStruct((1, context), jnp.int32)
    in_memory = not text.on_disk
    self.train_examples = _examples(train, in_memory=in_memory)
    test = texts.one_after_another(text.test, context + 1, context)
    test = test.first(config.data.num_test or len(test))
    seen = texts.one_after_another(learned, context + 1, context)
    seen = seen.first(min(config.eval.num_train, self.num_train))
    self.evaluation_sets = {
      "test": _examples(test, in_memory=in_memory),
      "train": _examples(seen, in_memory=in_memory),
    }
    if held_out:
      validation = texts.one_after_another(
        _part(text.train, end), context + 1, context
      )
      self.evaluation_sets["validation"] = _examples(
        validation, in_memory=in_memory
      )
    self.digest = _digest(self.train_examples, *self.evaluation_sets.values())

  @property
  def constants(self) -> dict[str, Any]:
    """What its tokens stand for."""
    return {
      "vocabulary": self.text.vocabulary,
      "bytes_per_token": self.text.bytes_per_token,
    }

  @staticmethod
  def rate(config: Any) -> tuple[str, int]:
    """Tokens, of which a window has a context's length."""
    return "tokens", config.task.context

  @staticmethod
  def check(config: Any) -> dict[str, Any]:
    """See :meth:`sparse_regimes.tasks.Task.check`."""
    context = config.task.context
    check_names(config, models=["transformer"], signals=["loss", "accuracy"])
    one_of("level", config.task.level, texts.LEVELS)
    in_range("context", context, 2, 2**20)
    for field, default in _UNUSED.items():
      section, name = field.split(".")
      if config[section][name] != default:
        raise InputError(
          f"{field} must be {default!r} where task.name is language, got"
          f" {config[section][name]!r}"
        )
    with section_of("data"):
      in_range("num_train", config.data.num_train, 0, 10**9)
      in_range("num_test", config.data.num_test, 0, 10**9)
      in_range("num_validation", config.data.num_validation, 0, 10**9)
      texts.check_name(config.data.name)
    return {"vocabulary": 256, "context": context}

  def _check(self, config: Any) -> None:
    name, context = config.data.name, self._context
    for part, tokens, wanted in (
      ("training", self.text.train, 2 * context),
      ("test", self.text.test, context + 1),
    ):
      if len(tokens) < wanted:
        raise InputError(
          f"data.name {name}: its {part} text must have {wanted} tokens for a"
          f" task.context of {context}, got {len(tokens)}; give more text or a"
          " smaller task.context"
        )
    if self.text.num_tokens < 2:
      raise InputError(
        f"data.name {name}: it must have two different characters at least"
      )
    held_out = config.data.num_validation
    if held_out and self.num_train < 1:
      raise InputError(
        f"data.num_validation must leave training windows of {name}, which has"
        f" {len(self.text.train) // context}, got {held_out}"
      )
    if self.num_train < config.train.batch_size:
      rest = f" beside {held_out} held out" if held_out else ""
      raise InputError(
        f"train.batch_size must be at most the {self.num_train} training"
        f" windows of {name}{rest}, got {config.train.batch_size}"
      )

  def inputs_of(self, batch: Any) -> jax.Array:
    """What the network takes of a batch of an evaluation set."""
    return _split(batch["tokens"])["tokens"]

  def batch(self, examples: Examples, index: jax.Array) -> dict[str, jax.Array]:
    """The windows at ``index``."""
    return gather(examples, index)

  def train_step(
    self,
    model: nn.Module,
    tx: optax.GradientTransformation,
    controller: Controller,
  ) -> TrainStep:
    """A step on windows that begin at random places."""
    inner = classification_loss(model.apply, inputs="tokens")
    context, stride = self._context, self._stride

    def loss_fn(
      params: Any, model_state: Any, batch: Any, *, keep_ratio: Any, rng: Any
    ) -> Any:
      tokens = batch["tokens"]
      starts = jax.random.randint(
        jax.random.fold_in(rng, 2), tokens.shape[:1], 0, stride
      )
      windows = jax.vmap(
        lambda row, start: lax.dynamic_slice_in_dim(row, start, context + 1)
      )(tokens, starts)
      return inner(
        params, model_state, _split(windows), keep_ratio=keep_ratio, rng=rng
      )

    return make_step(loss_fn, tx, controller)

  def extra(self, key: jax.Array) -> None:
    """Nothing."""

  def eval_step(self, model: nn.Module) -> EvalStep:
    """Sums over the tokens of a batch's windows; with bits of text."""
    inner = make_eval_step(model.apply, inputs="tokens")
    bits = self._bits

    def evaluate(state: Any, batch: Any, keep_ratio: jax.Array) -> Any:
      sums = inner(state, _split(batch["tokens"]), keep_ratio)
      return {**sums, "bits_per_byte": sums["loss"] * jnp.float32(bits)}

    return EvalStep(evaluate)

  def sweep(
    self,
    model: nn.Module,
    state: Any,
    batches: Sequence[Any],
    keep_ratios: Sequence[Any],
    on_ratio: Callable[[dict[str, Any]], None] = lambda row: None,
  ) -> list[dict[str, Any]]:
    """As :func:`sparse_regimes.analysis.budget_sweep.sweep`, of tokens."""
    inner = make_sweep_step(model.apply, inputs="tokens")
    bits = self._bits

    def step(state: Any, batch: Any, keep_ratio: jax.Array) -> Any:
      return inner(state, _split(batch["tokens"]), keep_ratio)

    def told(row: dict[str, Any]) -> None:
      row["bits_per_byte"] = row["loss"] * bits
      on_ratio(row)

    return sweep(step, state, batches, keep_ratios, told)


def _split(windows: jax.Array) -> dict[str, jax.Array]:
  """Each token, and what comes after it."""
  windows = windows.astype(jnp.int32)
  return {"tokens": windows[:, :-1], "labels": windows[:, 1:]}


def _part(tokens: Any, start: int, end: int | None = None) -> Any:
  end = len(tokens) if end is None else max(0, end)
  if isinstance(tokens, np.ndarray):
    return tokens[start:end]
  return tokens.part(start, end)


def _examples(windows: texts.Windows, *, in_memory: bool) -> Examples:
  return {"tokens": windows[:] if in_memory else windows}


def _digest(*sets: Examples) -> int:
  """Of all tokens; of a text that stays on disk, of the first."""
  checksum = 0
  for windows in (x for examples in sets for x in examples.values()):
    if not isinstance(windows, np.ndarray):
      windows = windows[: max(1, _LOOKED_AT // windows.shape[1])]
    checksum = zlib.crc32(np.ascontiguousarray(windows).data, checksum)
  return checksum
