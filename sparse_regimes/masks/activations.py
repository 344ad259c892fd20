"""Pointwise activations, by the names that configs use or as functions."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range, one_of

Activation = Callable[[jax.Array], jax.Array]


def j_squared_relu(
  x: jax.Array, *, linear_above: float | None = None
) -> jax.Array:
  r"""ReLU whose slope jumps to 1 and then grows.

  .. math:: \sigma(x) = \tfrac{1}{2}((x_+ + 1)^2 - 1), \quad
     \sigma'(x) = (x + 1)\, 1(x > 0), \quad x_+ = \max(x, 0)

  Args:
    x: real, any shape.
    linear_above: continue with the slope reached there, at least 0; None is
      never. The first version has 4: :math:`5(x - 4) + 12`.

  Returns:
    The same shape and dtype.

  Raises:
    ValueError: for a negative ``linear_above``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.activations import j_squared_relu
    >>> j_squared_relu(jnp.array([-1.0, 0.0, 1.0, 6.0]))
    Array([ 0. ,  0. ,  1.5, 24. ], dtype=float32)
    >>> j_squared_relu(jnp.array([6.0]), linear_above=4.0)
    Array([22.], dtype=float32)

  Source: Peng et al., arXiv 2309.03004 (J-SquaredReLU).
  """
  # An infinite pre-activation of the other branch would make gradients NaN.
  positive = jax.nn.relu(x)
  if linear_above is None:
    return positive * (1 + 0.5 * positive)
  in_range("linear_above", linear_above, 0)
  curved = jnp.minimum(positive, linear_above)
  slope = 1 + linear_above
  return curved * (1 + 0.5 * curved) + slope * (positive - curved)


def mixed_activation(
  x: jax.Array,
  mix: ArrayLike,
  *,
  first: Activation = jax.nn.relu,
  second: Activation = j_squared_relu,
) -> jax.Array:
  r"""From one activation to another: :math:`(1 - m) f(x) + m\, g(x)`.

  Args:
    x: real, any shape.
    mix: m, a scalar in ``[0, 1]``, Python or traced; clipped.
    first: f.
    second: g.

  Returns:
    The same shape and dtype; f(x) bit for bit at 0 and g(x) at 1, where both
    are finite.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.activations import mixed_activation
    >>> mixed_activation(jnp.array([-1.0, 1.0]), 0.5)
    Array([0.  , 1.25], dtype=float32)

  Source: the fine-tuning of Peng et al., arXiv 2309.03004.
  """
  m = jnp.clip(jnp.asarray(mix, x.dtype), 0, 1)
  return (1 - m) * first(x) + m * second(x)


def shifted_s(
  x: jax.Array,
  *,
  base: Activation = jax.nn.relu,
  half_width: float = 1.5,
  shift_x: float = 0.0,
  shift_y: float = 0.0,
) -> jax.Array:
  r"""An S whose flat part may lie where no activation is zero.

  .. math:: S(x) = f(x - h) - f(-x - h), \qquad y = S(x - \delta_x) + \delta_y

  For f = ReLU or :func:`j_squared_relu` it is flat on :math:`[\delta_x - h,
  \delta_x + h]`, with the value :math:`\delta_y`. If pre-activations gather
  there, it is not because activations there are zero.

  Args:
    x: real, any shape.
    base: f.
    half_width: h, at least 0.
    shift_x: :math:`\delta_x`.
    shift_y: :math:`\delta_y`.

  Returns:
    The same shape and dtype.

  Raises:
    ValueError: for a negative ``half_width``.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.activations import shifted_s
    >>> shifted_s(jnp.array([-1.0, 0.5, 3.0]), shift_x=1.0, shift_y=2.0)
    Array([1.5, 2. , 2.5], dtype=float32)

  Source: the validation experiment of Peng et al., arXiv 2309.03004.
  """
  in_range("half_width", half_width, 0)

  def s_shape(x: jax.Array) -> jax.Array:
    return base(x - half_width) - base(-x - half_width)

  return shifted(s_shape, shift_x, shift_y)(x)


def shifted(
  activation: Activation, shift_x: float, shift_y: float
) -> Activation:
  r"""An activation moved: :math:`y = f(x - \delta_x) + \delta_y`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.activations import shifted
    >>> shifted(jax.nn.relu, 1.0, 2.0)(jnp.array([0.0, 3.0]))
    Array([2., 4.], dtype=float32)
  """
  if shift_x == 0 and shift_y == 0:
    return activation
  return lambda x: activation(x - jnp.asarray(shift_x, x.dtype)) + shift_y


def _gelu(x: jax.Array) -> jax.Array:
  """The exact one, as PyTorch writes it.

  ``jax.nn.gelu`` has the complement of erf, whose two branches XLA computes
  several times over in a backward pass on CPU: an MLP takes 1.7 times as long.
  """
  wide = x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)
  share = 0.5 * (1 + jax.lax.erf(wide * (0.5**0.5)))
  return (wide * share).astype(x.dtype)


def _leaky_relu(x: jax.Array) -> jax.Array:
  # Not jax.nn.leaky_relu: the derivative at exactly 0 is the slope here.
  return jnp.where(x > 0, x, 0.1 * x)


ACTIVATIONS: dict[str, Activation] = {
  "relu": jax.nn.relu,
  "leakyrelu": _leaky_relu,
  "elu": jax.nn.elu,
  "gelu": _gelu,
  "silu": jax.nn.silu,
  "softplus": jax.nn.softplus,
  "tanh": jnp.tanh,
  "identity": lambda x: x,
  "squared_relu": lambda x: jnp.square(jax.nn.relu(x)),
  "jsrelu": j_squared_relu,
  "jsrelu_linear": functools.partial(j_squared_relu, linear_above=4.0),
  "s_relu": shifted_s,
  "s_jsrelu": functools.partial(shifted_s, base=j_squared_relu),
}


_FLAT = {
  **dict.fromkeys(
    ("relu", "squared_relu", "jsrelu", "jsrelu_linear"), (-math.inf, 0.0)
  ),
  **dict.fromkeys(("s_relu", "s_jsrelu"), (-1.5, 1.5)),
}


def flat_part(
  name: str | Activation, shift_x: float = 0.0
) -> tuple[float, float] | None:
  """Where an activation's derivative is 0, from and to; None for others.

  Args:
    name: as for :func:`get_activation`.
    shift_x: by which it is moved along its argument.

  Example:
    >>> from sparse_regimes.masks.activations import flat_part
    >>> flat_part("relu"), flat_part("s_relu", 1.5), flat_part("gelu")
    ((-inf, 0.0), (0.0, 3.0), None)
  """
  if callable(name) or name not in _FLAT:
    return None
  low, high = _FLAT[name]
  return low + shift_x, high + shift_x


def get_activation(name: str | Activation) -> Activation:
  """The activation called ``name``.

  Args:
    name: ``relu``, ``leakyrelu`` (slope 0.1), ``elu``, ``gelu`` (exact),
      ``silu``, ``softplus``, ``tanh``, ``identity``, ``squared_relu``,
      ``jsrelu`` (:func:`j_squared_relu`), ``jsrelu_linear`` (the same, linear
      above 4), ``s_relu``, ``s_jsrelu`` (:func:`shifted_s` of them), or a
      function, which is returned.

  Raises:
    ValueError: for another name; the message lists these.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.masks.activations import get_activation
    >>> get_activation("relu")(jnp.array([-1.0, 2.0]))
    Array([0., 2.], dtype=float32)
  """
  if callable(name):
    return name
  return ACTIVATIONS[one_of("activation", name, ACTIVATIONS)]
