"""Training losses."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  r"""Softmax cross-entropy of each label, in float32.

  .. math:: L_b = -\log \mathrm{softmax}(z_b)_{y_b} \quad\text{or}\quad
     L_b = -\sum_c p_{bc} \log \mathrm{softmax}(z_b)_c

  Args:
    logits: real ``[..., num_classes]``.
    labels: integer ``[...]``, or float probabilities ``[..., num_classes]``,
      such as one-hot or smoothed labels.

  Returns:
    float32 ``[...]``, in nats.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.training.losses import cross_entropy
    >>> cross_entropy(jnp.zeros((1, 10)), jnp.array([3])).round(4)
    Array([2.3026], dtype=float32)
  """
  logits = logits.astype(jnp.float32)
  if labels.shape == logits.shape:
    return optax.softmax_cross_entropy(logits, labels.astype(jnp.float32))
  # As Optax has it, whose way to drop the axis JAX 0.12 cannot differentiate on
  # a mesh of explicit axes.
  chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)
  return jax.nn.logsumexp(logits, axis=-1) - jnp.squeeze(chosen, -1)
