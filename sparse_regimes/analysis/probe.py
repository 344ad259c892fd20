"""Every masked layer's values and gradients, in one backward pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.layers.taps import PERTURBATIONS, VALUES
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.tree import by_path


class Layer(NamedTuple):
  """What there is to see of a site; gradients are of each example's own loss.

  Attributes:
    pre: P, before the activation, ``[b, ..., n]``.
    hidden: A, after activation and mask.
    pre_gradient: eta, with respect to P.
    hidden_gradient: g, with respect to A.
    input: X, of the linear before; None if the network does not tell.
    output: Z, of the linear behind; likewise.
    output_gradient: with respect to Z; likewise.
  """

  pre: jax.Array
  hidden: jax.Array
  pre_gradient: jax.Array
  hidden_gradient: jax.Array
  input: jax.Array | None = None
  output: jax.Array | None = None
  output_gradient: jax.Array | None = None


def probe(
  apply_fn: Callable[..., Any],
  variables: Any,
  images: jax.Array,
  labels: jax.Array,
  keep_ratio: ArrayLike = 1.0,
  *,
  loss_fn: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
  layers: tuple[str, ...] = (),
) -> dict[str, Layer]:
  """Looks into a network of this package, or one with its sparse activations.

  Args:
    apply_fn: ``apply`` of a Linen module whose call
      ``(images, keep_ratio, train=False)`` returns ``(logits, stats)``.
    variables: of the network.
    images: as the network takes them, ``[b, ...]``.
    labels: integer ``[b]``.
    keep_ratio: real scalar.
    loss_fn: ``(logits, labels) -> [b]``; the gradients are of its sum, so of
      each example's own loss, not scaled by the batch.
    layers: names of those wanted; all by default.

  Returns:
    Layers by name, from input to output. It can be jitted.

  Raises:
    ValueError: for a layer that does not exist, listing those that do, or a
      network without :class:`sparse_regimes.SparseActivation` modules, or with
      one that is called twice.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import probe
    >>> from sparse_regimes.models import ResidualMLP
    >>> model, images = ResidualMLP(width=8, depth=2), jnp.ones((3, 2, 2, 3))
    >>> variables = model.init(jax.random.key(0), images, 1.0)
    >>> found = probe(model.apply, variables, images, jnp.arange(3), 0.5)
    >>> list(found), found["block0/site"].pre_gradient.shape
    (['block0/site', 'block1/site'], (3, 8))

  Source: the measures of Peng et al., arXiv 2309.03004.
  """

  def run(perturbations: Any) -> tuple[jax.Array, Any]:
    (logits, _), seen = apply_fn(
      {**variables, PERTURBATIONS: perturbations},
      images,
      keep_ratio,
      train=False,
      mutable=[VALUES],
    )
    return jnp.sum(loss_fn(logits, labels)), seen.get(VALUES, {})

  shapes = jax.eval_shape(lambda: run({})[1])
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  gradients, values = jax.grad(run, has_aux=True)(zeros)
  return _by_layer(values, gradients, layers)


def _by_layer(
  values: Any, gradients: Any, wanted: tuple[str, ...]
) -> dict[str, Layer]:
  seen, slopes = by_path(values), by_path(gradients)
  sites = [path.rpartition("/")[0] for path in seen if path.endswith("/hidden")]
  if not sites:
    raise ValueError(
      "apply_fn must be of a network with SparseActivation modules, got one"
      " without"
    )
  for name in wanted:
    if name not in sites:
      raise ValueError(f"layers must be among {', '.join(sites)}, got {name!r}")
  found = {}
  for site in sites:
    if wanted and site not in wanted:
      continue
    block = site.rpartition("/")[0]
    found[site] = Layer(
      pre=seen[f"{site}/pre"],
      hidden=seen[f"{site}/hidden"],
      pre_gradient=slopes[f"{site}/pre"],
      hidden_gradient=slopes[f"{site}/hidden"],
      input=seen.get(f"{block}/input"),
      output=seen.get(f"{block}/output"),
      output_gradient=slopes.get(f"{block}/output"),
    )
  return found
