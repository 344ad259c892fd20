"""Several training steps in one compiled call."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from sparse_regimes.training.state import TrainState
from sparse_regimes.training.step import TrainStep


def make_train_call(
  train_step: TrainStep,
  batch_of: Callable[[Any, jax.Array], Any] | None = None,
  out_shardings: Any = None,
) -> Any:
  """Compiles a call of several steps, however they get their batches.

  One step is called as it is: on CPU a convolution inside ``lax.scan`` is some
  36 times slower than outside.

  Args:
    train_step: of :func:`make_step` or :func:`make_train_step`.
    batch_of: ``(examples, index) -> batch``, of examples that lie on the
      device. None where the batches themselves are given.
    out_shardings: of the state and the metrics, as ``jax.jit`` takes them.

  Returns:
    ``train_call(state, examples, indices) -> (state, metrics)`` with
    ``indices`` int32 ``[num_steps, b]``, or ``train_call(state, batches)`` with
    batches ``[num_steps, b, ...]``; ``metrics`` are those of the step,
    ``[num_steps]`` each. The state is donated; another ``num_steps`` compiles
    anew. It is jitted, so it has ``lower``.
  """

  def several(state: TrainState, step: Any, over: Any) -> Any:
    if jax.tree.leaves(over)[0].shape[0] == 1:
      state, metrics = step(state, jax.tree.map(lambda x: x[0], over))
      return state, jax.tree.map(lambda m: m[None], metrics)
    return lax.scan(step, state, over)

  def from_examples(state: TrainState, examples: Any, indices: Any) -> Any:
    assert batch_of is not None
    return several(
      state, lambda s, index: train_step(s, batch_of(examples, index)), indices
    )

  def from_batches(state: TrainState, batches: Any) -> Any:
    return several(state, train_step, batches)

  return jax.jit(
    from_batches if batch_of is None else from_examples,
    donate_argnums=0,
    out_shardings=out_shardings,
  )
