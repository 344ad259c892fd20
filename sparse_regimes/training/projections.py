"""Constraints on parameters, kept by a projection after every update.

An update is what takes a parameter to its place, so the place is met to the
rounding of one addition: exactly, unless the parameter crosses 0 or more than
halves on its way there.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparse_regimes.errors import in_range
from sparse_regimes.tree import by_path, name_of

# Paths of parameters are their keys joined by slashes: block0/norm/scale.
Params = Any
Project = Callable[[dict[str, jax.Array], jax.Array], dict[str, jax.Array]]


class ProjectionState(NamedTuple):
  """Scalars.

  Attributes:
    step: updates made, int32.
  """

  step: jax.Array


def zeroth_bias(
  scales: Mapping[str, str | None] | None = None, *, c: float | None = 0.1
) -> optax.GradientTransformation:
  r"""Keeps zeroth biases small beside the scale of the norm before them.

  .. math:: D \leftarrow \mathrm{clip}(D, -c|\gamma|, c|\gamma|)

  Chain it last, behind any optimizer: it sees the parameters as they will be.

  Args:
    scales: paths of zeroth biases ``[T, d]``, each with that of its norm's
      scale :math:`\gamma` ``[d]``, or None for 1. By default every parameter
      called ``zeroth_bias`` has the one ``scale`` of a module beside it.
    c: at least 0, Python or traced; None projects nothing.

  Returns:
    An optax transformation that needs the parameters.

  Raises:
    ValueError: for a negative ``c``; from ``init``, for a path that is no
      parameter or a bias without a norm to refer to.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from sparse_regimes.training.projections import zeroth_bias
    >>> params = {
    ...   "norm": {"scale": jnp.array([1.0, -2.0])},
    ...   "bias": {"zeroth_bias": jnp.zeros((1, 2))},
    ... }
    >>> tx = optax.chain(optax.sgd(1.0), zeroth_bias(c=0.1))
    >>> grads = jax.tree.map(jnp.zeros_like, params)
    >>> grads["bias"]["zeroth_bias"] += 5.0
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["bias"]["zeroth_bias"]
    Array([[-0.1, -0.2]], dtype=float32)

  Source: Peng et al., arXiv 2309.03004.
  """
  if not (c is None or isinstance(c, jax.core.Tracer)):
    in_range("c", c, 0)

  def project(
    params: dict[str, jax.Array], step: jax.Array
  ) -> dict[str, jax.Array]:
    del step
    if c is None:
      return {}
    new = {}
    for bias, scale in _pairs(params, scales).items():
      gamma = jnp.ones(()) if scale is None else jnp.abs(params[scale])
      shape = params[bias].shape
      if gamma.shape not in ((), shape[-1:]):
        raise ValueError(
          f"scales must name a norm of the width of {bias}, got {scale} of"
          f" {gamma.shape} for {shape}"
        )
      bound = jnp.broadcast_to(c * gamma, shape)
      new[bias] = jnp.clip(params[bias], -bound, bound)
    return new

  return _projection(project)


def restricted_scale(
  scales: tuple[str, ...], *, uplift_steps: int = 0
) -> optax.GradientTransformation:
  r"""Keeps the scales of layer norms at 1 or more.

  From scratch :math:`\gamma \leftarrow \max(\gamma, 1)`. For fine-tuning, over
  N steps,

  .. math:: |\gamma| \leftarrow \max(|\gamma|, \min(t / N, 1))

  with the sign kept, and :math:`\mathrm{sign}(0) = +1`. Chain it last.

  Args:
    scales: paths of the scales.
    uplift_steps: N; 0 is from scratch.

  Returns:
    An optax transformation that needs the parameters.

  Raises:
    ValueError: for a negative ``uplift_steps``; from ``init``, for a path that
      is no parameter, or no paths.

  Example:
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from sparse_regimes.training.projections import restricted_scale
    >>> params = {"norm": {"scale": jnp.array([1.5, 1.0])}}
    >>> tx = optax.chain(optax.sgd(1.0), restricted_scale(("norm/scale",)))
    >>> grads = {"norm": {"scale": jnp.array([0.2, 0.2])}}
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["norm"]["scale"]
    Array([1.3, 1. ], dtype=float32)

  Source: Peng et al., arXiv 2309.03004, from its second version on.
  """
  in_range("uplift_steps", uplift_steps, 0, 2**31 - 1)
  _check_paths("scales", scales)
  if not scales:
    raise ValueError("scales must name a layer norm's scale, got none")

  def project(
    params: dict[str, jax.Array], step: jax.Array
  ) -> dict[str, jax.Array]:
    new = {}
    for path in scales:
      gamma = _at(params, path)
      if not uplift_steps:
        new[path] = jnp.maximum(gamma, 1.0)
        continue
      floor = jnp.minimum(step / uplift_steps, 1.0).astype(gamma.dtype)
      sign = jnp.where(gamma < 0, -1.0, 1.0).astype(gamma.dtype)
      new[path] = sign * jnp.maximum(jnp.abs(gamma), floor)
    return new

  return _projection(project)


def frozen(paths: tuple[str, ...]) -> optax.GradientTransformation:
  """Keeps parameters as they are, weight decay or not. Chain it last.

  Args:
    paths: of the parameters.

  Returns:
    An optax transformation.

  Raises:
    ValueError: for one path instead of several; from ``init``, for one that is
      no parameter.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from sparse_regimes.training.projections import frozen
    >>> params = {"norm": {"bias": jnp.ones(1)}, "w": jnp.ones(1)}
    >>> decay = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(1.0))
    >>> tx = optax.chain(decay, frozen(("norm/bias",)))
    >>> grads = jax.tree.map(jnp.ones_like, params)
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> print(updates["norm"]["bias"], updates["w"])
    [0.] [-1.5]
  """
  _check_paths("paths", paths)

  def is_frozen(params: Params) -> Any:
    if named := by_path(params):
      for path in paths:
        _at(named, path)
    return jax.tree_util.tree_map_with_path(
      lambda path, _: name_of(path) in paths, params
    )

  return optax.masked(optax.set_to_zero(), is_frozen)


def _projection(project: Project) -> optax.GradientTransformation:
  """Replaces updates so that they end where ``project`` says."""

  def init(params: Params) -> ProjectionState:
    # Names are checked before a step is compiled. Of no parameters optax asks
    # for the state to tell moments from counters.
    if jax.tree.leaves(params):
      jax.eval_shape(project, by_path(params), jnp.ones((), jnp.int32))
    return ProjectionState(step=jnp.zeros((), jnp.int32))

  def update(
    updates: Any, state: ProjectionState, params: Params = None
  ) -> tuple[Any, ProjectionState]:
    if params is None:
      raise ValueError(
        "params must be given to a projection's update, got None"
      )
    step = state.step + 1
    before = by_path(params)
    projected = project(by_path(optax.apply_updates(params, updates)), step)

    def replace(path: Any, update: jax.Array) -> jax.Array:
      name = name_of(path)
      if name not in projected:
        return update
      return (projected[name] - before[name]).astype(update.dtype)

    updates = jax.tree_util.tree_map_with_path(replace, updates)
    return updates, ProjectionState(step)

  return optax.GradientTransformation(init, update)


def _pairs(
  params: Mapping[str, jax.Array], scales: Mapping[str, str | None] | None
) -> dict[str, str | None]:
  """Zeroth biases with the scales they refer to."""
  if scales is not None:
    for bias, scale in scales.items():
      _at(params, bias)
      if scale is not None:
        _at(params, scale)
    return dict(scales)
  pairs: dict[str, str | None] = {}
  for path in params:
    if path.rpartition("/")[2] != "zeroth_bias":
      continue
    # block/bias/zeroth_bias: the scales of other modules of the block.
    block = path.rpartition("/")[0].rpartition("/")[0]
    prefix = f"{block}/" if block else ""
    beside = [
      other
      for other in params
      if other.startswith(prefix)
      and other.removeprefix(prefix).count("/") == 1
      and other.endswith("/scale")
    ]
    if len(beside) != 1:
      raise ValueError(
        f"scales must say which norm {path} refers to, got"
        f" {', '.join(beside) or 'none'} beside it; {{{path!r}: None}} is"
        " a scale of 1"
      )
    pairs[path] = beside[0]
  if not pairs:
    raise ValueError("scales must name zeroth biases, got params without any")
  return pairs


def _check_paths(name: str, paths: Any) -> None:
  if isinstance(paths, str):
    raise ValueError(f"{name} must be a tuple of paths, got {paths!r}")


def _at(params: Mapping[str, jax.Array], path: str) -> jax.Array:
  if path not in params:
    raise ValueError(
      f"paths must be those of parameters, got {path!r}, not among"
      f" {', '.join(sorted(params)[:8])}{', ...' if len(params) > 8 else ''}"
    )
  return params[path]
