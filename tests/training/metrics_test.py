import jax.numpy as jnp
import numpy as np

from sparse_regimes.masks.statistics import nonzero_fraction
from sparse_regimes.training.losses import cross_entropy
from sparse_regimes.training.metrics import is_correct


def test_nonzero_fraction_of_more_entries_than_float32_can_count():
  x = jnp.zeros(2**24 + 512, jnp.bfloat16).at[: 2**24 + 256].set(1)
  expected = (2**24 + 256) / (2**24 + 512)
  np.testing.assert_allclose(nonzero_fraction(x), expected, rtol=1e-7)
  assert nonzero_fraction(x) < 1


def test_nan_counts_as_nonzero_and_negative_zero_does_not():
  assert nonzero_fraction(jnp.array([jnp.nan, -0.0, 0.0, 1.0])) == 0.5


def test_cross_entropy_is_computed_in_float32():
  logits = jnp.array([[10.0, 9.0, 0.1]], jnp.bfloat16)
  x = np.asarray(logits, np.float64)[0]
  expected = np.log(np.exp(x).sum()) - x[1]
  got = cross_entropy(logits, jnp.array([1]))
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, [expected], rtol=1e-6)


def test_is_correct():
  logits = jnp.array([[0.0, 2.0], [3.0, 1.0], [1.0, 1.0]])
  assert list(is_correct(logits, jnp.array([1, 1, 0]))) == [True, False, True]
