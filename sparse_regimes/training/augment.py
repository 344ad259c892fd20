"""Images as they are seen in training: moved, mirrored, mixed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sparse_regimes.errors import in_range

LossFn = Callable[..., tuple[jax.Array, dict[str, Any]]]
# Drawn from a step's key besides what its network draws.
_STREAM = 0x5EED


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
  """Moves each image by up to ``padding`` pixels; what comes in is black.

  Args:
    key: a typed key.
    images: ``[b, h, w, c]``.
    padding: pixels added at each side before the size is cut out again.

  Returns:
    The same shape and dtype.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.training.augment import random_crop
    >>> moved = random_crop(jax.random.key(0), jnp.ones((2, 4, 4, 1)), 1)
    >>> moved.shape
    (2, 4, 4, 1)
  """
  around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
  padded = jnp.pad(images, around)
  starts = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)

  def cut(image: jax.Array, start: jax.Array) -> jax.Array:
    zero = jnp.zeros((), start.dtype)
    return jax.lax.dynamic_slice(
      image, (start[0], start[1], zero), images.shape[1:]
    )

  return jax.vmap(cut)(padded, starts)


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
  """Mirrors each image left to right, or does not, with even chances.

  Args:
    key: a typed key.
    images: ``[b, h, w, c]``.

  Returns:
    The same shape and dtype.
  """
  flipped = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
  return jnp.where(flipped, images[:, :, ::-1], images)


def mixup(
  key: jax.Array, images: jax.Array, labels: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
  r"""Mixes each example with another of its batch.

  .. math:: \tilde x_i = \lambda x_i + (1 - \lambda) x_{\pi(i)}

  and labels alike, with one :math:`\lambda \sim Beta(\alpha, \alpha)` and one
  permutation a batch.

  Args:
    key: a typed key.
    images: ``[b, h, w, c]``.
    labels: probabilities, float ``[b, num_classes]``.
    alpha: above 0.

  Returns:
    Both, in float32.

  Source: Zhang et al., arXiv 1710.09412.
  """
  share_key, order_key = jax.random.split(key)
  share = jax.random.beta(share_key, alpha, alpha)
  order = jax.random.permutation(order_key, len(images))

  def mixed(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    return share * x + (1 - share) * x[order]

  return mixed(images), mixed(labels)


def augmented(
  loss_fn: LossFn,
  *,
  num_classes: int,
  crop: int = 0,
  flip: bool = False,
  mixup_alpha: float = 0.0,
  label_smoothing: float = 0.0,
) -> LossFn:
  r"""A classifier's loss on augmented batches, keyed by the step.

  Smoothed labels are :math:`(1 - s) y + s / c` for c classes. With everything
  off it is ``loss_fn`` itself.

  Args:
    loss_fn: of :func:`sparse_regimes.classification_loss`; its batch has
      ``images`` ``[b, h, w, c]`` and integer ``labels`` ``[b]``.
    num_classes: c.
    crop: of :func:`random_crop`, in ``[0, 1024]``; 0 is off.
    flip: whether images are mirrored.
    mixup_alpha: of :func:`mixup`; 0 is off.
    label_smoothing: s, in ``[0, 1)``.

  Raises:
    ValueError: for a number out of its range.

  Source: crops and mirrors as for CIFAR-10 since He et al., arXiv 1512.03385;
    smoothing, Szegedy et al., arXiv 1512.00567.
  """
  in_range("crop", crop, 0, 1024)
  in_range("mixup_alpha", mixup_alpha, 0)
  in_range("label_smoothing", label_smoothing, 0, 1, below=True)
  if not (crop or flip or mixup_alpha or label_smoothing):
    return loss_fn

  def augmented_loss(
    params: Any, model_state: Any, batch: Any, *, keep_ratio: Any, rng: Any
  ) -> tuple[jax.Array, dict[str, Any]]:
    keys = jax.random.split(jax.random.fold_in(rng, _STREAM), 3)
    images, labels = batch["images"], batch["labels"]
    if crop:
      images = random_crop(keys[0], images, crop)
    if flip:
      images = random_flip(keys[1], images)
    if mixup_alpha or label_smoothing:
      labels = jax.nn.one_hot(labels, num_classes)
      if label_smoothing:
        labels = (1 - label_smoothing) * labels + label_smoothing / num_classes
      if mixup_alpha:
        images, labels = mixup(keys[2], images, labels, mixup_alpha)
    return loss_fn(
      params,
      model_state,
      {**batch, "images": images, "labels": labels},
      keep_ratio=keep_ratio,
      rng=rng,
    )

  return augmented_loss
