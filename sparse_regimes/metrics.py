"""What is measured at every step."""

import jax
import jax.numpy as jnp


def is_correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Whether the largest logit of each example is its label's.

  Args:
    logits: real ``[b, num_classes]``.
    labels: integer ``[b]``.

  Returns:
    bool ``[b]``.

  Example:
    >>> is_correct(jnp.array([[0.0, 2.0], [3.0, 1.0]]), jnp.array([1, 1]))
    Array([ True, False], dtype=bool)
  """
  return jnp.argmax(logits, axis=-1) == labels


def nonzero_fraction(x: jax.Array) -> jax.Array:
  """The share of entries that are not zero.

  Counted in integers: a float32 sum of ones stops growing at 2**24.

  Args:
    x: any shape with at least one entry.

  Returns:
    float32 scalar in ``[0, 1]``.

  Example:
    >>> nonzero_fraction(jnp.array([0.0, 1.0, 2.0, 0.0]))
    Array(0.5, dtype=float32)
  """
  return jnp.count_nonzero(x).astype(jnp.float32) / x.size
