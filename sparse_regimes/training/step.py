"""The paper's algorithm: one training step, one evaluation step."""

import functools
import inspect
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from sparse_regimes.controllers import Controller
from sparse_regimes.masks.manual_axes import vary, varying_axes
from sparse_regimes.training.classification import (
  classification_loss,
  identity,
)
from sparse_regimes.training.finiteness import Learned, stays_finite
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.training.state import TrainState, unfrozen

Metrics = dict[str, Any]
LossFn = Callable[..., tuple[jax.Array, Mapping[str, Any]]]
TrainStep = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_AUX = ("signals", "model_state", "metrics")


def make_step(
  loss_fn: LossFn,
  tx: optax.GradientTransformation,
  controller: Controller,
  *,
  axis_name: Hashable | tuple[Hashable, ...] | None = None,
  skip_nonfinite: bool = True,
  donate_state: bool = True,
  jit: bool = True,
  **jit_kwargs: Any,
) -> TrainStep:
  r"""A training step of any loss: gradient, update, the controller's decision.

  .. math:: g &= \nabla_\theta L(\theta, B; r_t), \quad
     \theta \leftarrow \theta + \mathrm{tx}(g) \\
     r_{t+1} &= \mathrm{controller}(L, \text{signals})

  The forward and backward pass run at the keep ratio in force; what the
  controller decides acts from the next step on. A step whose loss, gradient or
  new parameters are not finite, or that makes a moment or a model state so,
  changes nothing but the step counter: its metrics say ``skipped``, and every
  signal that the controller gets is NaN.

  Args:
    loss_fn: ``loss_fn(params, model_state, batch, *, keep_ratio, rng) ->
      (loss, aux)``, with a scalar loss. ``aux`` is a dict of up to three:
      ``signals``, scalars for the controller, which gets the ``loss`` besides;
      ``model_state``, the collections that changed; ``metrics``, scalars to
      return.
    tx: the optimizer. One that takes extra arguments gets the loss as
      ``value`` and the ``controller_state`` in force, as far as it takes them.
    controller: see :class:`sparse_regimes.Controller`.
    axis_name: of ``pmap``, ``shard_map`` or ``vmap``: gradients, loss, signals,
      metrics and model state are averaged over it, and each device draws of its
      own. Under ``jit`` with shardings there is nothing to say.
    skip_nonfinite: False takes every step as it comes, for a caller who looks
      at what came out himself: at every tenth step, say.
    donate_state: reuse the state's memory; the argument is gone after the call.
    jit: compile. False leaves that to a ``pmap`` or a ``jit`` around the step.
    **jit_kwargs: of ``jax.jit``, such as ``out_shardings``.

  Returns:
    ``step(state, batch) -> (state, metrics)``. ``metrics`` has what ``aux``
    had, and float32: ``loss``, the ``keep_ratio`` that the step ran at,
    ``skipped`` (0 or 1), ``collapsed`` (1 if a
    :func:`sparse_regimes.controllers.watched` controller says so, else 0).

  Raises:
    ValueError: while it is traced, naming what in ``aux`` or in the signals
      does not fit.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import sparse_regimes as sr
    >>> def loss_fn(params, model_state, batch, *, keep_ratio, rng):
    ...   hidden = sr.sparse_activation(batch["x"] @ params["a"], keep_ratio)
    ...   return jnp.mean(jnp.abs(hidden @ params["b"] - batch["y"])), {}
    >>> tx = optax.sgd(0.1)
    >>> controller = sr.controllers.strategy1(signal="loss", drop_tol=0.5)
    >>> state = sr.TrainState.create(
    ...   {"params": {"a": jnp.ones((3, 8)), "b": jnp.ones((8, 1))}},
    ...   tx=tx, controller=controller, rng=jax.random.key(0),
    ... )
    >>> step = sr.make_step(loss_fn, tx, controller)
    >>> batch = {"x": jnp.ones((4, 3)), "y": jnp.ones((4, 1))}
    >>> state, metrics = step(state, batch)
    >>> sorted(metrics)
    ['collapsed', 'keep_ratio', 'loss', 'skipped']

  Source: Wang, arXiv 2603.03131, for any loss.
  """
  update = _update_fn(tx)

  def train_step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
    keep_ratio = _keep_ratio_of(state.controller_state)
    rng = jax.random.fold_in(state.rng, state.step)
    params, model_state = state.params, state.model_state
    if axis_name is not None:
      rng = jax.random.fold_in(rng, lax.axis_index(axis_name))
      # Else shard_map would add the gradients up, where it checks that what is
      # replicated stays so.
      axes = axis_name if isinstance(axis_name, tuple) else (axis_name,)
      params, model_state = jax.tree.map(
        lambda x: vary(x, axes), (params, model_state)
      )

    def loss_and_aux(params: Any) -> tuple[jax.Array, Any]:
      result = loss_fn(
        params, model_state, batch, keep_ratio=keep_ratio, rng=rng
      )
      return _checked(result, state.model_state)

    grad_fn = jax.value_and_grad(loss_and_aux, has_aux=True)
    (loss, (signals, updated, metrics)), grads = grad_fn(params)
    if axis_name is not None:
      # Where shard_map checks, the gradient of a loss that is a mean over the
      # axis already comes in parts that add up.
      checks = varying_axes(vary(jnp.zeros(()), axes))
      adds_up = checks - varying_axes(loss)
      # Axis by axis, as a loss may be a mean over some of them.
      for axis in axes:
        add = lax.psum if axis in adds_up else lax.pmean
        grads = jax.tree.map(functools.partial(add, axis_name=axis), grads)
        loss, signals, metrics = jax.tree.map(
          lambda x, axis=axis: lax.pmean(jnp.asarray(x, _floating(x)), axis),
          (loss, signals, metrics),
        )
        updated = jax.tree.map(lambda x, axis=axis: _agreed(x, axis), updated)
    if loss.dtype.itemsize < 4:
      loss = loss.astype(jnp.float32)
    new_model_state = {**state.model_state, **updated}

    updates, opt_state = update(
      grads,
      state.opt_state,
      state.params,
      value=loss,
      controller_state=state.controller_state,
    )
    new_params = optax.apply_updates(state.params, updates)
    new = Learned(new_params, new_model_state, opt_state)
    old = Learned(state.params, state.model_state, state.opt_state)
    finite = jnp.array(True)
    if skip_nonfinite:
      finite = stays_finite(loss, grads, new, old)
      new = jax.tree.map(functools.partial(jnp.where, finite), new, old)
    heard = jax.tree.map(
      lambda x: jnp.where(finite, jnp.asarray(x, jnp.float32), jnp.nan),
      {"loss": loss, **signals},
    )
    controller_state = controller.update(state.controller_state, **heard)
    new_state = state.replace(
      step=state.step + 1,
      controller_state=controller_state,
      **new._asdict(),
    )
    return new_state, {
      "loss": loss,
      **metrics,
      "keep_ratio": keep_ratio,
      "skipped": 1.0 - finite.astype(jnp.float32),
      "collapsed": jnp.asarray(
        getattr(controller_state, "collapsed", False), jnp.float32
      ),
    }

  if not jit:
    if jit_kwargs:
      raise ValueError(
        f"{', '.join(jit_kwargs)} is for jax.jit, but jit is False"
      )
    return train_step
  donated = {"donate_argnums": 0} if donate_state else {}
  return jax.jit(train_step, **{**donated, **jit_kwargs})


def make_train_step(
  apply_fn: Callable[..., Any],
  tx: optax.GradientTransformation,
  controller: Controller,
  *,
  loss_fn: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
  preprocess: Callable[[jax.Array], jax.Array] = identity,
  inputs: str = "images",
  site_names: Sequence[str] = (),
  axis_name: Hashable | tuple[Hashable, ...] | None = None,
  donate_state: bool = True,
  jit: bool = True,
  **jit_kwargs: Any,
) -> TrainStep:
  """The step of a classifier: :func:`make_step` of its loss.

  Args:
    apply_fn: see :func:`sparse_regimes.classification_loss`, as are
      ``loss_fn``, ``preprocess``, ``inputs``, ``site_names`` and what ``batch``
      has.
    tx: see :func:`make_step`, as are the others.
    controller: it hears of ``accuracy``, ``loss`` and ``stats``.
    loss_fn: ``(logits, labels) -> losses``.
    preprocess: applied to the inputs inside the step.
    inputs: the inputs' name in a batch.
    site_names: of the model, for a metric of each site.
    axis_name: to average over.
    donate_state: reuse the state's memory.
    jit: compile.
    **jit_kwargs: of ``jax.jit``.

  Returns:
    ``train_step(state, batch) -> (state, metrics)``. ``metrics`` has those of
    :func:`make_step`, ``accuracy``, the mean of the ``nonzero`` fractions, and
    ``nonzero/NAME``, that of each site that has a name.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from sparse_regimes import TrainState, controllers
    >>> from sparse_regimes import make_train_step, models
    >>> model = models.ResidualMLP(width=8, depth=1)
    >>> tx, controller = optax.sgd(0.1), controllers.strategy1()
    >>> batch = {"images": jnp.ones((4, 8, 8, 3)), "labels": jnp.arange(4)}
    >>> state = TrainState.create(
    ...   jax.jit(model.init)(jax.random.key(0), batch["images"], 1.0),
    ...   tx=tx, controller=controller, rng=jax.random.key(1),
    ... )
    >>> train_step = make_train_step(model.apply, tx, controller)
    >>> state, metrics = train_step(state, batch)
    >>> sorted(metrics)
    ['accuracy', 'collapsed', 'keep_ratio', 'loss', 'nonzero', 'skipped']

  Source: Wang, arXiv 2603.03131.
  """
  return make_step(
    classification_loss(
      apply_fn,
      loss_fn=loss_fn,
      preprocess=preprocess,
      inputs=inputs,
      site_names=site_names,
    ),
    tx,
    controller,
    axis_name=axis_name,
    donate_state=donate_state,
    jit=jit,
    **jit_kwargs,
  )


def _update_fn(tx: Any) -> Callable[..., Any]:
  """``tx.update`` that is given no more extra arguments than it takes.

  Its signature says so, rather than its class: ``optax.MultiSteps`` hands them
  on and is none of ``optax.GradientTransformationExtraArgs``.
  """
  parameters = inspect.signature(tx.update).parameters
  takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())

  def update(grads: Any, state: Any, params: Any, **extra: Any) -> Any:
    taken = {n: x for n, x in extra.items() if takes_all or n in parameters}
    while True:
      try:
        return tx.update(grads, state, params, **taken)
      except TypeError as error:
        # One inside another may take fewer than that hands on.
        name = _UNEXPECTED.search(str(error))
        if name is None or name[1] not in taken:
          raise
        del taken[name[1]]

  return update


def _checked(result: Any, model_state: Any) -> tuple[jax.Array, Any]:
  """The loss and the parts of ``aux``, or a ``ValueError`` naming the fault."""
  if not isinstance(result, tuple) or len(result) != 2:
    raise ValueError(
      f"loss_fn must return (loss, aux), got a {type(result).__name__}; aux may"
      " be {}"
    )
  loss, aux = result
  if jnp.shape(loss) != ():
    raise ValueError(
      f"loss_fn must return a scalar loss, got shape {jnp.shape(loss)}:"
      " jnp.mean makes one of a batch"
    )
  if not isinstance(aux, Mapping) or set(aux) - set(_AUX):
    found = sorted(aux) if isinstance(aux, Mapping) else type(aux).__name__
    raise ValueError(
      f"loss_fn must return (loss, aux) with a dict of {', '.join(_AUX)}, got"
      f" {found}"
    )
  signals, updated, metrics = (unfrozen(aux.get(name) or {}) for name in _AUX)
  for part, taken in (
    (signals, {"loss"}),
    (metrics, {"loss", "keep_ratio", "skipped", "collapsed"}),
  ):
    if both := taken & set(part):
      raise ValueError(
        f"aux must not have {', '.join(sorted(both))}: the step says that"
        " itself, so give yours another name"
      )
  for name, value in updated.items():
    known = model_state.get(name)
    if len({jax.tree.structure(x) for x in (value, known)}) > 1:
      raise ValueError(
        f"model_state must keep its structure, got another {name!r}: make the"
        " collection, as it is after a training call, part of"
        " TrainState.create's variables, or leave it out there and here (what"
        " is sown belongs to metrics)"
      )
  return loss, (signals, updated, metrics)


def _keep_ratio_of(controller_state: Any) -> jax.Array:
  if not hasattr(controller_state, "keep_ratio"):
    raise ValueError(
      "the controller's state must have keep_ratio, the budget in force, got a"
      f" {type(controller_state).__name__}; a NamedTuple or a struct has fields"
    )
  return controller_state.keep_ratio


def _floating(x: ArrayLike) -> Any:
  dtype = jnp.result_type(x)
  return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32


def _agreed(x: jax.Array, axis_name: Any) -> jax.Array:
  """A state's mean over an axis; on counts and keys all agree."""
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    return x
  mean_or_most = lax.pmean if _floating(x) == x.dtype else lax.pmax
  return mean_or_most(x, axis_name)
