"""The evaluation of one batch, for any keep ratio and any labels that count."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.training.classification import (
  Batch,
  check_batch,
  counted_sums,
  identity,
  logits_and_stats,
)
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.training.state import TrainState

Metrics = dict[str, Any]


class EvalStep:
  """A compiled evaluation; see :func:`make_eval_step`."""

  def __init__(self, evaluate: Callable[..., Metrics], **jit_kwargs: Any):
    self._jitted = jax.jit(evaluate, **jit_kwargs)

  def __call__(
    self, state: Any, batch: Batch, keep_ratio: ArrayLike
  ) -> Metrics:
    """Sums over a batch at a keep ratio."""
    # A float, an int and an array would each be compiled for.
    return self._jitted(state, batch, jnp.asarray(keep_ratio, jnp.float32))

  def lower(self, state: Any, batch: Batch, keep_ratio: ArrayLike) -> Any:
    """As ``jax.jit(f).lower``; what is compiled takes a float32 ratio."""
    if not isinstance(keep_ratio, jax.ShapeDtypeStruct):
      keep_ratio = jnp.asarray(keep_ratio, jnp.float32)
    return self._jitted.lower(state, batch, keep_ratio)


def make_eval_step(
  apply_fn: Callable[..., Any],
  *,
  loss_fn: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
  preprocess: Callable[[jax.Array], jax.Array] = identity,
  inputs: str = "images",
  **jit_kwargs: Any,
) -> EvalStep:
  """A jitted evaluation of one batch; one compilation for every keep ratio.

  Args:
    apply_fn: ``apply_fn(variables, inputs, keep_ratio, train=False) ->
      (logits, stats)``.
    loss_fn: ``(logits, labels) -> losses``, one a label.
    preprocess: applied to the inputs inside the step.
    inputs: the inputs' name in a batch.
    **jit_kwargs: of ``jax.jit``.

  Returns:
    ``eval_step(state, batch, keep_ratio) -> sums``, to be added up over batches
    and divided by ``count``. ``state`` is a :class:`TrainState` or variables;
    ``keep_ratio`` a scalar or one a site; ``batch`` is as in
    :func:`sparse_regimes.classification_loss`. ``count``, int32, is how many
    labels count; ``loss`` float32 and ``correct`` int32 are summed over them;
    ``nonzero``, float32, is the nonzero fraction of every site times the count.
    ``eval_step.lower`` lowers, as that of ``jax.jit``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import make_eval_step
    >>> def apply_fn(variables, images, keep_ratio, train):
    ...   return images @ variables["params"], jnp.ones(1)
    >>> batch = {"images": jnp.eye(2), "labels": jnp.array([0, 0])}
    >>> make_eval_step(apply_fn)({"params": jnp.eye(2)}, batch, 1.0)["correct"]
    Array(1, dtype=int32)

  Source: ours.
  """

  def evaluate(state: Any, batch: Batch, keep_ratio: jax.Array) -> Metrics:
    check_batch(batch, inputs)
    variables = state.variables if isinstance(state, TrainState) else state
    logits, stats = logits_and_stats(
      apply_fn(variables, preprocess(batch[inputs]), keep_ratio, train=False)
    )
    sums = counted_sums(logits, batch, loss_fn)
    count = sums["count"].astype(jnp.float32)
    nonzero = jax.tree.map(lambda share: share * count, stats)
    return {**sums, "nonzero": nonzero}

  return EvalStep(evaluate, **jit_kwargs)
