"""All measures of every layer, from one backward pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.typing import ArrayLike

from sparse_regimes.analysis.flatness import augmented_flatness, l0_coefficient
from sparse_regimes.analysis.probe import Layer, probe
from sparse_regimes.analysis.sparsity import (
  EFFECTIVE,
  active_fraction,
  effective_gradient_fractions,
  gradient_norms,
  mean_norm,
  outside_flat,
)


class Measures(NamedTuple):
  r"""Of a site, float32 scalars; None where the network does not tell.

  Attributes:
    active: share of activations above 1e-6 in magnitude.
    derivative: share of pre-activations outside the activation's flat part;
      None if it has none.
    effective: shares of :math:`|\eta|` above 1e-9, 1e-6 and 1e-3, ``[3]``.
    eta_l1: mean :math:`\lVert \eta \rVert_1`.
    eta_square: mean :math:`\lVert \eta \rVert_2^2`.
    output_gradient: mean :math:`\lVert \partial L / \partial Z \rVert_2`.
    flatness: augmented flatness of the linear before the site.
    flatness_behind: of the linear behind it.
    l0_coefficient: what ties the share of activations above 0 to ``flatness``
      for ReLU, see :func:`sparse_regimes.analysis.l0_coefficient`.

  Source: Peng et al., arXiv 2309.03004.
  """

  active: jax.Array
  derivative: jax.Array | None
  effective: jax.Array
  eta_l1: jax.Array
  eta_square: jax.Array
  output_gradient: jax.Array | None
  flatness: jax.Array | None
  flatness_behind: jax.Array | None
  l0_coefficient: jax.Array | None


def measure_layer(
  layer: Layer, flat: tuple[float, float] | None = None
) -> Measures:
  """Measures one layer.

  Args:
    layer: of :func:`probe`.
    flat: where its activation is flat, see
      :func:`sparse_regimes.masks.activations.flat_part`.

  Returns:
    :class:`Measures`.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import Layer, measure_layer
    >>> pre, gradient = jnp.array([[-1.0, 2.0, 3.0, 4.0]]), jnp.ones((1, 4))
    >>> layer = Layer(pre, jnp.maximum(pre, 0.0), gradient, gradient)
    >>> found = measure_layer(layer)
    >>> print(found.active, found.eta_l1, found.flatness)
    0.75 4.0 None
  """
  eta_l1, eta_square = gradient_norms(layer.pre_gradient)
  before = behind = norm = c = None
  if layer.input is not None:
    before = augmented_flatness(layer.input, layer.pre_gradient)
    c = l0_coefficient(layer.input, layer.hidden, layer.hidden_gradient)
  if layer.output_gradient is not None:
    behind = augmented_flatness(layer.hidden, layer.output_gradient)
    norm = mean_norm(layer.output_gradient)
  return Measures(
    active=active_fraction(layer.hidden),
    derivative=outside_flat(layer.pre, *flat) if flat else None,
    effective=effective_gradient_fractions(layer.pre_gradient, EFFECTIVE),
    eta_l1=eta_l1,
    eta_square=eta_square,
    output_gradient=norm,
    flatness=before,
    flatness_behind=behind,
    l0_coefficient=c,
  )


def measure_layers(
  apply_fn: Callable[..., Any],
  variables: Any,
  images: jax.Array,
  labels: jax.Array,
  keep_ratio: ArrayLike = 1.0,
  *,
  flat: tuple[float, float] | None = None,
) -> dict[str, Measures]:
  """Probes a network and measures every site; meant to be jitted.

  Args:
    apply_fn: as for :func:`probe`.
    variables: of the network.
    images: as the network takes them, ``[b, ...]``.
    labels: integer ``[b]``.
    keep_ratio: real scalar.
    flat: where the activation is flat.

  Returns:
    :class:`Measures` by site, from input to output.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import measure_layers
    >>> from sparse_regimes.models import ResidualMLP
    >>> model, images = ResidualMLP(width=8, depth=2), jnp.ones((3, 2, 2, 3))
    >>> variables = model.init(jax.random.key(0), images, 1.0)
    >>> found = measure_layers(model.apply, variables, images, jnp.arange(3))
    >>> list(found), found["block1/site"].effective.shape
    (['block0/site', 'block1/site'], (3,))
  """
  layers = probe(apply_fn, variables, images, labels, keep_ratio)
  return {name: measure_layer(layer, flat) for name, layer in layers.items()}
