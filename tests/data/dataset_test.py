import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_regimes.data import dataset


def test_normalize_against_float64():
  images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
  expected = images.astype(np.float64) / 255
  expected = (expected - [0.4914, 0.4822, 0.4465]) / [0.2470, 0.2435, 0.2616]
  for function in (dataset.normalize, jax.jit(dataset.normalize)):
    scaled = function(jnp.asarray(images))
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=2e-6)


@given(
  seed=st.integers(0, 2**31 - 1),
  epoch=st.integers(0, 1000),
  num_examples=st.integers(1, 200),
  batch_size=st.integers(1, 50),
)
def test_epoch_visits_each_example_at_most_once(
  seed, epoch, num_examples, batch_size
):
  indices = dataset.epoch_indices(seed, epoch, num_examples, batch_size)
  assert indices.shape == (num_examples // batch_size, batch_size)
  assert indices.dtype == np.int32
  assert len(np.unique(indices)) == indices.size
  assert np.all((indices >= 0) & (indices < num_examples))


def test_epoch_is_decided_by_seed_and_number():
  first = dataset.epoch_indices(0, 3, 100, 10)
  np.testing.assert_array_equal(first, dataset.epoch_indices(0, 3, 100, 10))
  assert np.any(first != dataset.epoch_indices(0, 4, 100, 10))
  assert np.any(first != dataset.epoch_indices(1, 3, 100, 10))
  # Not by the sum of the two, either.
  assert np.any(first != dataset.epoch_indices(3, 0, 100, 10))


@pytest.mark.parametrize("batch_size", [100, 10, 1])
def test_whole_epoch_is_a_permutation(batch_size):
  indices = dataset.epoch_indices(0, 0, 100, batch_size)
  np.testing.assert_array_equal(np.sort(indices.ravel()), np.arange(100))
