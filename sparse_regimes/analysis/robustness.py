"""Accuracy against small changes of the images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from sparse_regimes.errors import in_range
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.training.metrics import is_correct

Classify = Callable[[jax.Array], jax.Array]


def fgsm(
  classify: Classify,
  images: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float = 1 / 255,
) -> jax.Array:
  r"""Images moved one step of equal size up the loss, in every pixel.

  .. math:: x' = \mathrm{clip}(x + \epsilon\, \mathrm{sign}\, \nabla_x L, 0, 1)

  Args:
    classify: images in ``[0, 1]`` to logits ``[b, num_classes]``; it scales
      them as the network wants them.
    images: in ``[0, 1]``, float ``[b, ...]``.
    labels: integer ``[b]``.
    epsilon: at least 0, in units of the pixels' range.

  Returns:
    Float images of the same shape.

  Raises:
    ValueError: for a negative ``epsilon``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import fgsm
    >>> weights = jnp.array([[1.0, -1.0]])
    >>> moved = fgsm(
    ...   lambda x: x @ weights, jnp.array([[0.5]]), jnp.array([0]), epsilon=0.1
    ... )
    >>> print(moved)
    [[0.4]]

  Source: Goodfellow et al., arXiv 1412.6572.
  """
  in_range("epsilon", epsilon, 0)

  def loss(x: jax.Array) -> jax.Array:
    return jnp.sum(cross_entropy(classify(x), labels))

  return jnp.clip(images + epsilon * jnp.sign(jax.grad(loss)(images)), 0, 1)


def fgsm_accuracy(
  classify: Classify,
  images: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float = 1 / 255,
) -> jax.Array:
  r"""The share of images still classified rightly after :func:`fgsm`.

  .. math:: \mathrm{mean}_b\, 1(\arg\max f(x'_b) = y_b)

  Args:
    classify: as there.
    images: in ``[0, 1]``, float ``[b, ...]``.
    labels: integer ``[b]``.
    epsilon: at least 0.

  Returns:
    float32 scalar in ``[0, 1]``.

  Raises:
    ValueError: for a negative ``epsilon``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.analysis import fgsm_accuracy
    >>> images = jnp.array([[0.5, 0.5]])
    >>> right = jnp.array([0])
    >>> for epsilon in (0.0, 0.1):
    ...   classify = lambda x: x + jnp.array([[0.1, 0.0]])
    ...   print(fgsm_accuracy(classify, images, right, epsilon=epsilon))
    1.0
    0.0

  Source: Goodfellow et al., arXiv 1412.6572.
  """
  moved = fgsm(classify, images, labels, epsilon=epsilon)
  return jnp.mean(is_correct(classify(moved), labels), dtype=jnp.float32)
