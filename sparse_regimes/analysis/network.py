"""How sparse, flat and robust a network is."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sparse_regimes import analysis
from sparse_regimes.data.dataset import Dataset, Normalize
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.training.metrics import is_correct
from sparse_regimes.training.state import TrainState

_RADIUS = 0.05
_EPSILON = 1 / 255


def measure_state(
  model: nn.Module,
  state: TrainState,
  data: Dataset,
  *,
  num_images: int,
  flat: tuple[float, float] | None = None,
  hessian_samples: int = 0,
) -> dict[str, Any]:
  """Measures a network, dense.

  Args:
    model: of this package.
    state: its variables.
    data: uint8 images; the first of either split are used.
    num_images: how many of either.
    flat: where the activation is flat.
    hessian_samples: 0 leaves the trace of the Hessian out.

  Returns:
    What ``measures.json`` has of an epoch, from ``sites`` on; numbers, lists
    and null.
  """
  normalize = data.preprocess
  train = jnp.asarray(data.train_images[:num_images])
  labels = jnp.asarray(data.train_labels[:num_images])
  row = {
    "sites": {
      name: site._asdict()
      for name, site in _sites(
        model, normalize, state, train, labels, flat
      ).items()
    },
    "sharpness": _sharpness(model, normalize, state, train, labels),
    **_robustness(
      model,
      normalize,
      state,
      jnp.asarray(data.test_images[:num_images]),
      jnp.asarray(data.test_labels[:num_images]),
    ),
    "hessian_trace": None,
    "hessian_error": None,
    "spectra": {
      name: value._asdict()
      for name, value in analysis.spectra(state.params).items()
    },
  }
  if hessian_samples:
    keys = jax.random.split(jax.random.key(0), hessian_samples)
    row["hessian_trace"], row["hessian_error"] = analysis.mean_and_error(
      [_hessian(model, normalize, state, train, labels, key) for key in keys]
    )
  return _plain(jax.device_get(row))


# A network is compiled once, however many runs of it are measured.
@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def _sites(
  model: nn.Module,
  normalize: Normalize,
  state: TrainState,
  images: jax.Array,
  labels: jax.Array,
  flat: tuple[float, float] | None,
) -> dict[str, analysis.Measures]:
  return analysis.measure_layers(
    model.apply, state.variables, normalize(images), labels, flat=flat
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sharpness(
  model: nn.Module,
  normalize: Normalize,
  state: TrainState,
  images: jax.Array,
  labels: jax.Array,
) -> jax.Array:
  loss = _loss(model, normalize, state, images, labels)
  return analysis.sharpness(loss, state.params, radius=_RADIUS)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _hessian(
  model: nn.Module,
  normalize: Normalize,
  state: TrainState,
  images: jax.Array,
  labels: jax.Array,
  key: jax.Array,
) -> jax.Array:
  loss = _loss(model, normalize, state, images, labels)
  return analysis.hessian_sample(loss, state.params, key)


def _loss(
  model: nn.Module,
  normalize: Normalize,
  state: TrainState,
  images: jax.Array,
  labels: jax.Array,
) -> Callable[[Any], jax.Array]:
  """The mean loss over images, of the parameters."""

  def loss(params: Any) -> jax.Array:
    variables = {**state.variables, "params": params}
    logits, _ = model.apply(variables, normalize(images), 1.0, train=False)
    return jnp.mean(cross_entropy(logits, labels))

  return loss


@functools.partial(jax.jit, static_argnums=(0, 1))
def _robustness(
  model: nn.Module,
  normalize: Normalize,
  state: TrainState,
  images: jax.Array,
  labels: jax.Array,
) -> dict[str, jax.Array]:
  def classify(pixels: jax.Array) -> jax.Array:
    logits, _ = model.apply(
      state.variables, normalize(255 * pixels), 1.0, train=False
    )
    return logits

  pixels = images.astype(jnp.float32) / 255
  right = is_correct(classify(pixels), labels)
  return {
    "accuracy": jnp.mean(right, dtype=jnp.float32),
    "fgsm_accuracy": analysis.fgsm_accuracy(
      classify, pixels, labels, epsilon=_EPSILON
    ),
  }


def _plain(value: Any) -> Any:
  """For JSON: null for what is not finite or not known."""
  if isinstance(value, Mapping):
    return {name: _plain(v) for name, v in value.items()}
  if value is None:
    return None
  array = np.asarray(value, np.float64)
  numbers = [float(v) if math.isfinite(v) else None for v in array.ravel()]
  return numbers if array.ndim else numbers[0]
