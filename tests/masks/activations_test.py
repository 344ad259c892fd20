import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes import sparse_activation
from sparse_regimes.masks.activations import (
  ACTIVATIONS,
  get_activation,
  j_squared_relu,
  mixed_activation,
  shifted_s,
)

X = jnp.array([-jnp.inf, -4.0, -1.0, -0.0, 0.0, 1e-3, 0.5, 3.0, 4.0, 7.0])


def slopes(function, x):
  return jax.vmap(jax.grad(function))(x)


def test_j_squared_relu_is_its_equation():
  x = np.asarray(X[1:], np.float64)
  expected = np.where(x > 0, ((x + 1) ** 2 - 1) / 2, 0)
  np.testing.assert_allclose(j_squared_relu(X[1:]), expected, rtol=1e-6)
  slope = np.where(np.asarray(X) > 0, np.asarray(X) + 1, 0)
  np.testing.assert_allclose(slopes(j_squared_relu, X), slope, rtol=1e-6)
  linear = np.where(x > 4, 5 * (x - 4) + 12, expected)
  got = j_squared_relu(X[1:], linear_above=4.0)
  np.testing.assert_allclose(got, linear, rtol=1e-6)


def test_a_mix_ends_where_it_should():
  for mix, expected in ((0, jax.nn.relu(X)), (-1, jax.nn.relu(X))):
    np.testing.assert_array_equal(mixed_activation(X, mix), expected)
  np.testing.assert_array_equal(mixed_activation(X, 2.0), j_squared_relu(X))
  half = mixed_activation(X, jnp.float32(0.5))
  np.testing.assert_allclose(half, (jax.nn.relu(X) + j_squared_relu(X)) / 2)


@pytest.mark.parametrize("base", [jax.nn.relu, j_squared_relu])
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1.6, 1.6), (-1.6, 1.6)])
def test_a_shifted_s_is_flat_where_it_says(base, dx, dy):
  x = jnp.linspace(-6, 6, 97) + dx
  y = shifted_s(x, base=base, shift_x=dx, shift_y=dy)
  flat = jnp.abs(x - dx) <= 1.5
  np.testing.assert_allclose(y[flat], dy, atol=1e-6)
  slope = slopes(lambda v: shifted_s(v, base=base, shift_x=dx, shift_y=dy), x)
  np.testing.assert_array_equal(slope != 0, ~flat)
  # Odd around its middle.
  np.testing.assert_allclose(y - dy, -(y - dy)[::-1], atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_takes_a_mask(name):
  x = jax.random.normal(jax.random.key(0), (2, 5, 20))
  y = sparse_activation(x, 0.1, activation=name, score="magnitude")
  assert (jnp.sum(y != 0, axis=(1, 2)) <= 10).all()
  as_function = sparse_activation(
    x, 0.1, activation=get_activation(name), score="magnitude"
  )
  if name != "relu":
    np.testing.assert_array_equal(y, as_function)
  for dtype in (jnp.float32, jnp.bfloat16):
    assert get_activation(name)(x.astype(dtype)).dtype == dtype
