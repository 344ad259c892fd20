"""Thresholds for a network that was trained without them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from sparse_regimes.layers.taps import VALUES
from sparse_regimes.masks.quantiles import NUM_QUANTILES, Quantiles
from sparse_regimes.tree import by_path

# Scores of a site that are kept: a table is exact up to as many.
_MOST = 1 << 20


def with_thresholds(model: nn.Module) -> nn.Module:
  """The network with thresholds for masks.

  Raises:
    ValueError: for one that has no field ``mask``.
  """
  if not hasattr(model, "mask"):
    raise ValueError(
      f"model must have a field mask, got {type(model).__name__}, which has"
      " none: give it to its sparse_regimes.SparseActivation modules"
    )
  return model.clone(mask="threshold")


def site_tables(
  model: nn.Module,
  variables: Mapping[str, Any],
  batches: Iterable[jax.Array],
) -> dict[str, np.ndarray]:
  """Quantiles of the scores at every site, dense, over calibration batches.

  Args:
    model: of this package, or one whose masks are
      :class:`sparse_regimes.SparseActivation` modules.
    variables: of it.
    batches: inputs, as it takes them.

  Returns:
    By the path of a site, in the order of the network's budgets: float32
    ``[NUM_QUANTILES]``, as :class:`sparse_regimes.masks.quantiles.Quantiles`
    has them. A site's scores are the absolute values of its activations where
    it ranks by magnitude.

  Raises:
    ValueError: if there is no batch, or no site is found.
  """
  uses_magnitude = getattr(model, "score", "value") == "magnitude"

  @jax.jit
  def look(variables: Any, inputs: jax.Array) -> dict[str, jax.Array]:
    _, collected = model.apply(
      variables, inputs, 1.0, train=False, mutable=[VALUES]
    )
    found = flatten_dict(collected.get(VALUES, {}))
    return {
      "/".join(path[:-1]): jnp.abs(x) if uses_magnitude else x
      for path, x in found.items()
      if path[-1] == "hidden"
    }

  seen: dict[str, list[np.ndarray]] = {}
  for inputs in batches:
    for site, scores in jax.device_get(look(variables, inputs)).items():
      seen.setdefault(site, []).append(np.asarray(scores, np.float32).ravel())
  if not seen:
    raise ValueError("the calibration set must have a batch, got none")
  at = np.linspace(0, 1, NUM_QUANTILES)
  tables = {}
  for site in by_path(dict.fromkeys(seen, 0)):
    scores = np.concatenate(seen[site])
    scores = scores[:: max(1, len(scores) // _MOST)]
    tables[site] = np.quantile(scores, at).astype(np.float32)
  return tables


def masks_of(tables: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """The collection ``masks`` of a network with these thresholds.

  Example:
    >>> import numpy as np
    >>> from sparse_regimes.analysis.calibration import NUM_QUANTILES, masks_of
    >>> masks = masks_of({"block0/site": np.zeros(NUM_QUANTILES)})
    >>> masks["block0"]["site"]["state"].values.shape
    (1025,)
  """
  return unflatten_dict(
    {
      (*site.split("/"), "state"): Quantiles(
        jnp.asarray(table, jnp.float32), jnp.ones((), jnp.int32)
      )
      for site, table in tables.items()
    }
  )


def output_error(
  sparse: nn.Module,
  variables: Mapping[str, Any],
  masks: Mapping[str, Any],
  inputs: jax.Array,
) -> Callable[[np.ndarray], float]:
  r"""How far outputs move when sites become sparse.

  .. math:: E(s) = \frac{\mathrm{mean}\,\lVert z(s) - z(0) \rVert}
     {\mathrm{mean}\,\lVert z(0) \rVert}

  over examples, or tokens, of their outputs z.

  Args:
    sparse: of :func:`with_thresholds`.
    variables: of the network.
    masks: of :func:`masks_of`.
    inputs: a calibration batch.

  Returns:
    ``error(sparsities) -> float``, of sparsities by site in ``[0, 1]``.
  """

  @jax.jit
  def outputs_at(variables: Any, masks: Any, ratio: jax.Array) -> jax.Array:
    outputs, _ = sparse.apply(
      {**variables, "masks": masks}, inputs, ratio, train=False
    )
    return _rows(outputs)

  start = outputs_at(variables, masks, jnp.ones((), jnp.float32))
  scale = float(jnp.mean(jnp.linalg.norm(start, axis=-1)))

  def error(sparsities: np.ndarray) -> float:
    ratio = jnp.asarray(1 - np.asarray(sparsities), jnp.float32)
    moved = outputs_at(variables, masks, ratio) - start
    return float(jnp.mean(jnp.linalg.norm(moved, axis=-1))) / scale

  return error


def _rows(outputs: jax.Array) -> jax.Array:
  return outputs.reshape(-1, outputs.shape[-1]).astype(jnp.float32)
