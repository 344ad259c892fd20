"""What a classifier's step minimises and what its evaluation counts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sparse_regimes.layers.synaptic_noise import RNG_STREAM
from sparse_regimes.masks.sites import check_sites
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.training.metrics import check_labels, is_correct

Batch = Mapping[str, Any]


def identity(inputs: Any) -> Any:
  """What it is given."""
  return inputs


def classification_loss(
  apply_fn: Callable[..., Any],
  *,
  loss_fn: Callable[[jax.Array, jax.Array], jax.Array] = cross_entropy,
  preprocess: Callable[[Any], Any] = identity,
  inputs: str = "images",
  site_names: Sequence[str] = (),
) -> Callable[..., tuple[jax.Array, dict[str, Any]]]:
  r"""The mean loss of a classifier, for :func:`sparse_regimes.make_step`.

  .. math:: L = \frac{\sum_i m_i\, \ell(z_i, y_i)}{\sum_i m_i}

  over the labels i of a batch, one an example or one a token, with the batch's
  mask m; without one all count.

  Args:
    apply_fn: ``apply_fn(variables, inputs, keep_ratio, train=True, rngs=...,
      mutable=[...]) -> ((logits, stats), updated)``, the ``apply`` of a Linen
      module whose call returns ``(logits, stats)``. ``rngs`` has ``dropout``
      and ``synapse``; ``mutable`` has ``batch_stats`` and every collection of
      the model's state; ``stats`` are the nonzero fractions by site, an array
      or a dict by name.
    loss_fn: ``(logits, labels) -> losses``, one a label.
    preprocess: applied to the inputs, such as a normalisation.
    inputs: the inputs' name in a batch.
    site_names: where ``stats`` is an array, names of its entries, such as
      ``model.site_names``; with names there is a metric for each site.

  Returns:
    ``loss_fn(params, model_state, batch, *, keep_ratio, rng) -> (loss, aux)``.
    ``batch`` has the inputs; ``labels``, integers ``[...]`` where logits are
    ``[..., c]``, or probabilities ``[..., c]``; and, if some do not count,
    ``mask``, bool or weights that are not negative, ``[...]``; a step of which
    no label counts is skipped. Signals are ``accuracy`` and
    ``stats``; metrics ``accuracy``, ``nonzero`` (the mean of stats) and
    ``nonzero/NAME`` for each site that has a name.

  Raises:
    ValueError: while it is traced, for labels or a mask of another shape.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import sparse_regimes as sr
    >>> model = sr.models.ResidualMLP(width=16, depth=1)
    >>> images, labels = jnp.ones((2, 4, 4, 3)), jnp.array([0, 1])
    >>> variables = model.init(jax.random.key(0), images, 1.0)
    >>> loss, aux = sr.classification_loss(model.apply)(
    ...   variables["params"], {}, {"images": images, "labels": labels},
    ...   keep_ratio=0.5, rng=jax.random.key(1),
    ... )
    >>> sorted(aux["signals"])
    ['accuracy', 'stats']

  Source: Wang, arXiv 2603.03131.
  """

  def batch_loss(
    params: Any, model_state: Any, batch: Batch, *, keep_ratio: Any, rng: Any
  ) -> tuple[jax.Array, dict[str, Any]]:
    check_batch(batch, inputs)
    returned, updated = apply_fn(
      {"params": params, **model_state},
      preprocess(batch[inputs]),
      keep_ratio,
      train=True,
      rngs={"dropout": rng, RNG_STREAM: jax.random.fold_in(rng, 1)},
      mutable=sorted({"batch_stats", *model_state}),
    )
    logits, stats = logits_and_stats(returned)
    logits, labels, mask = _counted(logits, batch)
    losses = loss_fn(logits, labels)
    if jnp.ndim(losses) or mask is not None:  # a mean is one, without a mask
      _check_losses(losses, logits)
    loss = _mean(losses, mask)
    accuracy = _mean(is_correct(logits, labels), mask)
    _check_stats(stats)
    sites = _by_name(stats, site_names)
    nonzero = jnp.stack(list(sites.values())) if sites else stats
    check_sites(keep_ratio, len(nonzero))
    return loss, {
      "signals": {"accuracy": accuracy, "stats": stats},
      "model_state": updated,
      "metrics": {
        "accuracy": accuracy,
        "nonzero": jnp.mean(nonzero),
        **{f"nonzero/{name}": share for name, share in sites.items()},
      },
    }

  return batch_loss


def check_batch(batch: Any, inputs: str) -> None:
  """Raises a ``ValueError`` for a batch without inputs or labels."""
  names = (inputs, "labels")
  if not isinstance(batch, Mapping) or not set(names) <= set(batch):
    got = [*batch] if isinstance(batch, Mapping) else type(batch).__name__
    raise ValueError(
      f"a batch must be a dict with {inputs!r} and 'labels', got {got}; inputs"
      " of another name: classification_loss(..., inputs=NAME)"
    )


def logits_and_stats(returned: Any) -> tuple[Any, Any]:
  """What a network's call returns, or a ``ValueError`` that says what is not.

  An array of two rows would come apart like a pair.
  """
  if isinstance(returned, tuple | list) and len(returned) == 2:
    return returned[0], returned[1]
  told = jax.tree.map(jnp.shape, returned)
  raise ValueError(
    "the network's call must return (logits, stats), of which stats are the"
    f" nonzero fractions by site, such as jnp.stack([jnp.mean(x != 0)]), got"
    f" {told} in shapes"
  )


def counted_sums(
  logits: jax.Array,
  batch: Batch,
  loss_fn: Callable[[jax.Array, jax.Array], jax.Array],
) -> dict[str, jax.Array]:
  """``loss``, ``correct`` and ``count`` over a batch's labels that count."""
  logits, labels, mask = _counted(logits, batch)
  losses = loss_fn(logits, labels)
  _check_losses(losses, logits)
  correct = is_correct(logits, labels)
  if mask is None:
    return {
      "loss": jnp.sum(losses),
      "correct": jnp.sum(correct, dtype=jnp.int32),
      "count": jnp.array(correct.size, jnp.int32),
    }
  # Of weights the sums are floats, too.
  is_float = jnp.issubdtype(mask.dtype, jnp.floating)
  weights = mask.astype(jnp.float32 if is_float else jnp.int32)
  return {
    "loss": jnp.sum(_weighted(losses, weights)),
    "correct": jnp.sum(weights * correct.astype(weights.dtype)),
    "count": jnp.sum(weights),
  }


def _counted(
  logits: jax.Array, batch: Batch
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Logits, labels and mask; what does not count is 0, whatever it was."""
  labels, mask = jnp.asarray(batch["labels"]), batch.get("mask")
  if mask is not None:
    mask = jnp.asarray(mask)
  check_labels(logits, labels, mask)
  if mask is not None:
    counts = mask.astype(bool)
    # A label such as -100 is of no class.
    of_classes = counts[..., None] if labels.ndim == logits.ndim else counts
    labels = jnp.where(of_classes, labels, jnp.zeros_like(labels))
    logits = jnp.where(counts[..., None], logits, jnp.zeros_like(logits))
  return logits, labels, mask


def _check_losses(losses: jax.Array, logits: jax.Array) -> None:
  shape = logits.shape[:-1]
  if jnp.shape(losses) != shape:
    raise ValueError(
      f"loss_fn must return a loss for each label, of shape {shape}, got"
      f" {jnp.shape(losses)}"
    )


def _check_stats(stats: Any) -> None:
  """Raises a ``ValueError`` for what are no nonzero fractions by site."""
  if isinstance(stats, Mapping):
    shares = [*stats.values()]
    is_right = shares and jax.tree_util.all_leaves(shares)
    is_right = is_right and not any(map(jnp.ndim, shares))
  else:
    is_right = hasattr(stats, "ndim") and stats.ndim == 1
  if not is_right:
    raise ValueError(
      "apply_fn must return (logits, stats), of which stats are the nonzero"
      " fractions of one site or more, an array [num_sites] or a dict of"
      f" scalars by name; got {jax.tree.map(jnp.shape, stats)}"
    )


def _by_name(stats: Any, names: Sequence[str]) -> dict[str, jax.Array]:
  """Nonzero fractions by site, as far as the sites have names."""
  if isinstance(stats, Mapping):
    return dict(stats)
  if names and len(names) != len(stats):
    raise ValueError(
      f"site_names must name each of {len(stats)} sites, got {len(names)}"
    )
  return {name: stats[i] for i, name in enumerate(names)}


def _mean(values: jax.Array, mask: jax.Array | None) -> jax.Array:
  """The mean over what counts; not a number if nothing does."""
  if mask is None:
    return jnp.mean(values, dtype=jnp.float32)
  weights = mask.astype(jnp.float32)
  total = jnp.sum(weights)
  mean = jnp.sum(_weighted(values, weights)) / total
  return jnp.where(total > 0, mean, jnp.nan)


def _weighted(values: jax.Array, weights: jax.Array) -> jax.Array:
  """The product in float32; 0 where the weight is, whatever the value."""
  weights = weights.astype(jnp.float32)
  return jnp.where(weights == 0, 0.0, weights * values.astype(jnp.float32))
