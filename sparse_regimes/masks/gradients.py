"""What a mask does to the gradient that passes it."""

import functools

import jax
import jax.numpy as jnp

GRADIENTS = ("masked", "straight_through", "dense")


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def kept(
  x: jax.Array, activated: jax.Array, mask: jax.Array, gradient: str
) -> jax.Array:
  r"""The activations that a mask keeps, zeros elsewhere.

  .. math:: y = M \odot \sigma(x), \qquad
     \frac{\partial y}{\partial x} =
     \begin{cases} M \odot \sigma'(x) & \text{masked} \\
     \sigma'(x) & \text{straight\_through} \\ 1 & \text{dense} \end{cases}

  ``masked`` is the derivative. ``straight_through`` leaves the mask out of it,
  so that what was dropped learns, too. ``dense`` leaves the activation out as
  well: no entry of the gradient is zero.

  Args:
    x: pre-activations.
    activated: :math:`\sigma(x)`, the shape and dtype of ``x``.
    mask: M, bool, their shape.
    gradient: one of ``GRADIENTS``.

  Returns:
    The shape and dtype of ``activated``.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.gradients import GRADIENTS, kept
    >>> x, mask = jnp.array([1.0, 2.0]), jnp.array([False, True])
    >>> def of_sum(gradient):
    ...   return jax.grad(lambda x: jnp.sum(kept(x, 3 * x, mask, gradient)))(x)
    >>> for gradient in GRADIENTS:
    ...   print(of_sum(gradient))
    [0. 3.]
    [3. 3.]
    [1. 1.]

  Source: straight_through as in Q-Sparse (arXiv 2407.10969); the name dense,
    and that it leaves the activation out, are ours.
  """
  del x, gradient
  return jnp.where(mask, activated, jnp.zeros((), activated.dtype))


@kept.defjvp
def _kept_jvp(gradient, primals, tangents):
  x, activated, mask = primals
  of_x, of_activated, _ = tangents
  y = kept(x, activated, mask, gradient)
  if gradient == "masked":
    moved = jnp.where(mask, of_activated, jnp.zeros((), y.dtype))
  else:
    moved = of_activated if gradient == "straight_through" else of_x
  return y, moved
