"""The paper's algorithm: one training step, one evaluation step."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from sparse_regimes.controllers import Controller
from sparse_regimes.layers.synaptic_noise import RNG_STREAM
from sparse_regimes.losses import cross_entropy
from sparse_regimes.metrics import is_correct
from sparse_regimes.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
LossFn = Callable[[jax.Array, jax.Array], jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch, ArrayLike], Metrics]


def make_train_step(
  apply_fn: Callable[..., Any],
  tx: optax.GradientTransformation,
  controller: Controller,
  *,
  loss_fn: LossFn = cross_entropy,
  preprocess: Callable[[jax.Array], jax.Array] = lambda images: images,
  donate_state: bool = True,
) -> TrainStep:
  """A jitted step: gradient, update, and the controller's decision.

  The forward and backward pass run at the keep ratio in force; the controller
  then sees the batch's accuracy, and what it decides acts from the next step
  on. A step whose loss, gradient or result is not finite changes nothing but
  the step counter, and its metrics say so; the controller sees a NaN, which
  moves nothing.

  Args:
    apply_fn: ``apply_fn(variables, images, keep_ratio, train=True, rngs=...,
      mutable=["batch_stats"]) -> ((logits, stats), updated)``, the ``apply`` of
      a Linen module whose call returns ``(logits, stats)``.
    tx: the optimizer. One that takes extra arguments gets the
      ``controller_state`` in force.
    controller: see :class:`sparse_regimes.controllers.Controller`.
    loss_fn: ``(logits, labels) -> [b]``, one loss an example.
    preprocess: applied to ``batch["images"]`` inside the step.
    donate_state: reuse the state's memory; the argument is gone after the call.

  Returns:
    ``train_step(state, batch) -> (state, metrics)``. ``batch`` has ``images``
    ``[b, ...]`` and ``labels`` ``[b]``; ``metrics`` has float32 scalars
    ``loss``, ``accuracy``, ``nonzero``, the ``keep_ratio`` the step ran at,
    ``skipped``: 1 if the loss, the gradient or what the update made of the
    state was not finite, else 0; and ``collapsed``: 1 if a
    :func:`sparse_regimes.controllers.watched` controller says so, else 0.

  Example:
    >>> from sparse_regimes import WideResNet, controllers
    >>> model = WideResNet(depth=10, widen=1)
    >>> tx, controller = optax.sgd(0.1), controllers.strategy1()
    >>> batch = {"images": jnp.ones((4, 8, 8, 3)), "labels": jnp.arange(4)}
    >>> state = TrainState.create(
    ...   model.init(jax.random.key(0), batch["images"], 1.0),
    ...   tx=tx, controller=controller, rng=jax.random.key(1),
    ... )
    >>> train_step = make_train_step(model.apply, tx, controller)
    >>> state, metrics = train_step(state, batch)
    >>> sorted(metrics)
    ['accuracy', 'collapsed', 'keep_ratio', 'loss', 'nonzero', 'skipped']

  Source: Wang, arXiv 2603.03131.
  """
  tx = optax.with_extra_args_support(tx)

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    keep_ratio = state.controller_state.keep_ratio
    rng = jax.random.fold_in(state.rng, state.step)
    rngs = {"dropout": rng, RNG_STREAM: jax.random.fold_in(rng, 1)}

    def batch_loss(params):
      (logits, stats), updated = apply_fn(
        {"params": params, "batch_stats": state.batch_stats},
        preprocess(batch["images"]),
        keep_ratio,
        train=True,
        rngs=rngs,
        mutable=["batch_stats"],
      )
      loss = jnp.mean(loss_fn(logits, batch["labels"]))
      return loss, (logits, stats, updated.get("batch_stats", {}))

    grad_fn = jax.value_and_grad(batch_loss, has_aux=True)
    (loss, (logits, stats, batch_stats)), grads = grad_fn(state.params)
    accuracy = jnp.mean(is_correct(logits, batch["labels"]), dtype=jnp.float32)

    updates, opt_state = tx.update(
      grads,
      state.opt_state,
      state.params,
      controller_state=state.controller_state,
    )
    params = optax.apply_updates(state.params, updates)
    new = params, batch_stats, opt_state
    finite = jnp.all(
      jnp.stack(
        [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((loss, grads, new))]
      )
    )
    controller_state = controller.update(
      state.controller_state, accuracy=jnp.where(finite, accuracy, jnp.nan)
    )
    params, batch_stats, opt_state = jax.tree.map(
      functools.partial(jnp.where, finite),
      new,
      (state.params, state.batch_stats, state.opt_state),
    )
    new_state = state.replace(
      step=state.step + 1,
      params=params,
      batch_stats=batch_stats,
      opt_state=opt_state,
      controller_state=controller_state,
    )
    metrics = {
      "loss": loss,
      "accuracy": accuracy,
      "nonzero": jnp.mean(stats),
      "keep_ratio": keep_ratio,
      "skipped": 1.0 - finite.astype(jnp.float32),
      "collapsed": jnp.asarray(
        getattr(controller_state, "collapsed", False), jnp.float32
      ),
    }
    return new_state, metrics

  return jax.jit(train_step, donate_argnums=0 if donate_state else ())


def make_eval_step(
  apply_fn: Callable[..., Any],
  *,
  loss_fn: LossFn = cross_entropy,
  preprocess: Callable[[jax.Array], jax.Array] = lambda images: images,
) -> EvalStep:
  """A jitted evaluation of one batch; one compilation for every keep ratio.

  Args:
    apply_fn: as in :func:`make_train_step`, called with ``train=False``.
    loss_fn: ``(logits, labels) -> [b]``.
    preprocess: applied to ``batch["images"]`` inside the step.

  Returns:
    ``eval_step(state, batch, keep_ratio) -> sums`` over the batch, to be added
    up and divided by ``count``: ``loss`` and ``nonzero`` float32 (the nonzero
    fraction of every site, times the examples), ``correct`` and ``count``
    int32.

  Example:
    >>> def apply_fn(variables, images, keep_ratio, train):
    ...   return images @ variables["params"], jnp.ones(1)
    >>> from sparse_regimes import controllers
    >>> state = TrainState.create(
    ...   {"params": jnp.eye(2)}, tx=optax.sgd(0.1),
    ...   controller=controllers.constant(), rng=jax.random.key(0),
    ... )
    >>> batch = {"images": jnp.eye(2), "labels": jnp.array([0, 0])}
    >>> make_eval_step(apply_fn)(state, batch, 1.0)["correct"]
    Array(1, dtype=int32)
  """

  @jax.jit
  def eval_step(
    state: TrainState, batch: Batch, keep_ratio: jax.Array
  ) -> Metrics:
    logits, stats = apply_fn(
      state.variables, preprocess(batch["images"]), keep_ratio, train=False
    )
    labels = batch["labels"]
    return {
      "loss": jnp.sum(loss_fn(logits, labels)),
      "correct": jnp.sum(is_correct(logits, labels), dtype=jnp.int32),
      "nonzero": stats * labels.shape[0],
      "count": jnp.array(labels.shape[0], jnp.int32),
    }

  def eval_step_at(
    state: TrainState, batch: Batch, keep_ratio: ArrayLike
  ) -> Metrics:
    # A float, an int and an array would each be compiled for.
    return eval_step(state, batch, jnp.asarray(keep_ratio, jnp.float32))

  return eval_step_at


def make_train_call(train_step: TrainStep, out_shardings: Any = None) -> Any:
  """Several steps in one compiled call, over a split that lies on the device.

  One step is called as it is: on CPU a convolution inside ``lax.scan`` is some
  36 times slower than outside.

  Args:
    train_step: of :func:`make_train_step`.
    out_shardings: of the state and the metrics, as ``jax.jit`` takes them.

  Returns:
    ``train_call(state, images, labels, indices) -> (state, metrics)`` with
    ``indices`` int32 ``[num_steps, b]`` into ``images`` and ``labels``;
    ``metrics`` are those of the step, ``[num_steps]`` each. The state is
    donated; another ``num_steps`` compiles anew. It is jitted, so it has
    ``lower``.
  """

  def train_call(state, images, labels, indices):
    def step(state, index):
      return train_step(
        state, {"images": images[index], "labels": labels[index]}
      )

    if indices.shape[0] == 1:
      state, metrics = step(state, indices[0])
      return state, jax.tree.map(lambda m: m[None], metrics)
    return lax.scan(step, state, indices)

  return jax.jit(train_call, donate_argnums=0, out_shardings=out_shardings)
