"""The average of the parameters over the steps, beside the parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from sparse_regimes.errors import in_range
from sparse_regimes.training.state import TrainState
from sparse_regimes.training.step import TrainStep

EMA = "ema"


def averaging(train_step: TrainStep, decay: float) -> TrainStep:
  r"""A step that also keeps an exponential moving average of the parameters.

  .. math:: \bar\theta \leftarrow d_t \bar\theta + (1 - d_t) \theta, \quad
     d_t = \min\Big(d, \frac{1 + t}{10 + t}\Big)

  with t the steps made, so that the first parameters are soon forgotten. A step
  that was skipped leaves the average as it is.

  Args:
    train_step: of :func:`sparse_regimes.make_step`; the state's ``extra`` has
      the average as ``ema``, of the structure of the parameters.
    decay: d, in ``[0, 1)``; with 0 the average is the parameters.

  Returns:
    The step, not compiled.

  Raises:
    ValueError: for a decay out of its range.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from sparse_regimes import TrainState, controllers
    >>> from sparse_regimes.training.averaging import averaging
    >>> def train_step(state, batch):
    ...   params = {"w": state.params["w"] + 1}
    ...   return state.replace(params=params, step=state.step + 1), {
    ...     "skipped": jnp.zeros(())
    ...   }
    >>> params = {"w": jnp.zeros(())}
    >>> state = TrainState.create(
    ...   {"params": params}, tx=optax.sgd(0.1), rng=jax.random.key(0),
    ...   controller=controllers.constant(), extra={"ema": params},
    ... )
    >>> state, _ = averaging(train_step, 0.9)(state, None)
    >>> print(f"{state.extra['ema']['w']:.2f}")
    0.90

  Source: Polyak and Juditsky 1992; the warm-up as in TensorFlow's
    ``ExponentialMovingAverage``.
  """
  in_range("decay", decay, 0, 1, below=True)

  def step(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
    new, metrics = train_step(state, batch)
    made = state.step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + made) / (10 + made))
    kept = jnp.where(metrics["skipped"] > 0, 1.0, kept)
    average = jax.tree.map(
      lambda a, x: (kept * a + (1 - kept) * x).astype(x.dtype),
      state.extra[EMA],
      new.params,
    )
    return new.replace(extra={**state.extra, EMA: average}), metrics

  return step


def averaged(state: TrainState) -> TrainState:
  """The state with the average in the place of its parameters.

  Raises:
    ValueError: if it has none.
  """
  if not (isinstance(state.extra, dict) and EMA in state.extra):
    raise ValueError("the state has no average: train.ema_decay was 0")
  return state.replace(params=state.extra[EMA])
