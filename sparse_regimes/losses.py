"""Training losses."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  r"""Softmax cross-entropy of each example, in float32.

  .. math:: L_b = -\log \mathrm{softmax}(z_b)_{y_b}

  Args:
    logits: real ``[b, num_classes]``.
    labels: integer ``[b]``.

  Returns:
    float32 ``[b]``, in nats.

  Example:
    >>> cross_entropy(jnp.zeros((1, 10)), jnp.array([3])).round(4)
    Array([2.3026], dtype=float32)
  """
  return optax.softmax_cross_entropy_with_integer_labels(
    logits.astype(jnp.float32), labels
  )
