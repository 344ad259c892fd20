"""One checkpoint at many budgets: the budget sweep."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sparse_regimes.training.classification import Batch
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.training.metrics import (
  calibration_error,
  calibration_sums,
  is_correct,
)
from sparse_regimes.training.state import TrainState
from sparse_regimes.tree import by_path

# Of a row, in the order of the table; those after ``SITES`` are lists by site.
TOTALS = ("keep_ratio", "accuracy", "loss", "calibration_error", "nonzero")
SITES = ("site_nonzero", "site_threshold", "site_kept_mass", "site_dead")


def make_sweep_step(
  apply_fn: Callable[..., Any],
  *,
  preprocess: Callable[[jax.Array], jax.Array] = lambda images: images,
  inputs: str = "images",
) -> Callable[[TrainState, Batch, jax.Array], dict[str, Any]]:
  """A jitted evaluation that also looks at every site.

  Args:
    apply_fn: ``apply`` of a Linen module whose masks are
      :class:`sparse_regimes.SparseActivation`.
    preprocess: applied to the inputs inside the step.
    inputs: their name in a batch, which has ``labels`` besides: integers, one
      an example or one a token.

  Returns:
    ``sweep_step(state, batch, keep_ratio) -> sums`` over the batch; one
    compilation for every keep ratio.
  """

  @jax.jit
  def sweep_step(
    state: TrainState, batch: Batch, keep_ratio: jax.Array
  ) -> dict[str, Any]:
    (logits, stats), collected = apply_fn(
      state.variables,
      preprocess(batch[inputs]),
      keep_ratio,
      train=False,
      mutable=["intermediates"],
    )
    labels = batch["labels"]
    # Of images one label each, of text one a token.
    logits = logits.reshape(-1, logits.shape[-1])
    examples, labels = labels.shape[0], labels.reshape(-1)
    return {
      "count": jnp.array(labels.shape[0], jnp.int32),
      "examples": jnp.array(examples, jnp.int32),
      "loss": jnp.sum(cross_entropy(logits, labels)),
      "correct": jnp.sum(is_correct(logits, labels), dtype=jnp.int32),
      "calibration": calibration_sums(logits, labels),
      "nonzero": jax.tree.map(lambda share: share * labels.shape[0], stats),
      "sites": collected.get("intermediates", {}),
    }

  return sweep_step


def sweep(
  sweep_step: Callable[..., Any],
  state: TrainState,
  batches: Sequence[Batch],
  keep_ratios: Sequence[ArrayLike | Sequence[float]],
  on_ratio: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
  """Evaluates a state at each budget.

  Args:
    sweep_step: of :func:`make_sweep_step`.
    state: its variables are evaluated.
    batches: of :func:`sparse_regimes.runs.evaluate.make_batches`.
    keep_ratios: each in ``[0, 1]``, a scalar or one a site.
    on_ratio: called with every row as soon as it is there.

  Returns:
    A row a ratio: the names of ``TOTALS``, of which ``keep_ratio`` is the mean
    over sites (``site_keep_ratio`` then has each), and lists over sites from
    input to output: nonzero fraction, mean threshold (the lowest score of what
    is kept and not zero), the share of the dense activations' mass that is
    kept, the share of channels that no image activates.
  """
  rows = []
  for keep_ratio in keep_ratios:
    ratio = jnp.asarray(keep_ratio, jnp.float32)
    sums: dict[str, Any] | None = None
    for batch in batches:
      new = sweep_step(state, batch, ratio)
      sums = new if sums is None else _add(sums, new)
    rows.append(_row(keep_ratio, jax.device_get(sums)))
    on_ratio(rows[-1])
  return rows


@jax.jit
def _add(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
  return jax.tree.map(lambda x, y: x | y if x.dtype == bool else x + y, a, b)


def _row(
  keep_ratio: ArrayLike | Sequence[float], sums: dict[str, Any]
) -> dict[str, Any]:
  count = int(sums["count"])
  sites = _in_order(sums["sites"])
  # Of a dict by site, in the order of its names.
  nonzero = np.hstack(jax.tree.leaves(sums["nonzero"])).astype(np.float64)
  nonzero = np.atleast_1d(nonzero) / count
  # A network whose masks are no modules says only what is zero.
  unknown = [math.nan] * len(nonzero)
  is_known = len(sites) == len(nonzero)
  by_site = {}
  if np.ndim(keep_ratio):
    by_site["site_keep_ratio"] = np.asarray(keep_ratio, np.float64).tolist()
  return {
    **by_site,
    "keep_ratio": float(np.mean(keep_ratio)),
    "accuracy": int(sums["correct"]) / count,
    "loss": float(sums["loss"]) / count,
    "calibration_error": calibration_error(sums["calibration"]),
    "nonzero": float(nonzero.mean()),
    "site_nonzero": nonzero.tolist(),
    "site_threshold": [
      float(s.threshold) / int(sums["examples"]) for s in sites
    ]
    if is_known
    else unknown,
    # Where nothing is active nothing is lost.
    "site_kept_mass": [
      float(s.kept / s.total) if s.total else 1.0 for s in sites
    ]
    if is_known
    else unknown,
    "site_dead": [float(1 - np.mean(s.active)) for s in sites]
    if is_known
    else unknown,
  }


def _in_order(collected: Any) -> list[Any]:
  """The sites by module name, of which the numbers count from the input."""
  return list(
    by_path(collected, is_leaf=lambda x: hasattr(x, "threshold")).values()
  )
