"""Images as they are seen in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes.training.augment import (
  augmented,
  mixup,
  random_crop,
  random_flip,
)

KEY = jax.random.key(0)
IMAGES = jax.random.randint(KEY, (64, 6, 5, 3), 1, 255, jnp.uint8)


def test_crops_are_moves_that_fill_with_black():
  moved = np.asarray(random_crop(KEY, IMAGES, 2))
  assert moved.dtype == np.uint8
  padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
  found = set()
  for image, before in zip(moved, padded, strict=True):
    (place,) = [
      (i, j)
      for i in range(5)
      for j in range(5)
      if np.array_equal(before[i : i + 6, j : j + 5], image)
    ]
    found.add(place)
  assert len(found) > 15  # of 25 places


def test_half_of_the_images_are_mirrored():
  flipped = np.asarray(random_flip(KEY, IMAGES))
  mirrored = [
    np.array_equal(image, before[:, ::-1])
    for image, before in zip(flipped, np.asarray(IMAGES), strict=True)
  ]
  same = [
    np.array_equal(image, before)
    for image, before in zip(flipped, np.asarray(IMAGES), strict=True)
  ]
  assert all(a != b for a, b in zip(mirrored, same, strict=True))
  assert 20 < sum(mirrored) < 44


def test_mixed_labels_are_as_the_images_are():
  # An image that is its label: the first pixel.
  classes = jnp.arange(64) % 4
  labels = jax.nn.one_hot(classes, 4)
  images = (
    jnp.zeros((64, 2, 2, 4), jnp.uint8)
    .at[:]
    .set(labels[:, None, None].astype(jnp.uint8))
  )
  mixed_images, mixed_labels = mixup(KEY, images, labels, 0.5)
  np.testing.assert_allclose(mixed_images[:, 0, 0], mixed_labels, rtol=1e-6)
  np.testing.assert_allclose(mixed_labels.sum(-1), 1, rtol=1e-6)
  assert jnp.any((mixed_labels > 0.01) & (mixed_labels < 0.99))


def seen(batch, rng=KEY, **arguments):
  def loss_fn(params, model_state, batch, *, keep_ratio, rng):
    return jnp.zeros(()), batch

  return augmented(loss_fn, num_classes=4, **arguments)(
    {}, {}, batch, keep_ratio=1.0, rng=rng
  )[1]


BATCH = {"images": IMAGES, "labels": jnp.arange(64) % 4, "mask": jnp.ones(64)}


def test_a_key_decides_what_is_seen():
  arguments = {"crop": 2, "flip": True, "mixup_alpha": 1.0}
  one, again, other = (
    np.asarray(seen(BATCH, jax.random.key(i), **arguments)["images"])
    for i in (1, 1, 2)
  )
  np.testing.assert_array_equal(one, again)
  assert np.any(one != other)
  assert seen(BATCH, **arguments)["mask"] is BATCH["mask"]


def test_smoothed_labels_are_probabilities():
  labels = np.asarray(seen(BATCH, label_smoothing=0.2)["labels"])
  np.testing.assert_allclose(labels[1], [0.05, 0.85, 0.05, 0.05], rtol=1e-6)
  assert seen(BATCH, flip=True)["labels"] is BATCH["labels"]


def test_with_everything_off_the_loss_is_the_loss():
  def loss_fn():
    pass

  assert augmented(loss_fn, num_classes=2) is loss_fn


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"crop": -1}, "crop must be in"),
    ({"mixup_alpha": -0.1}, "mixup_alpha must be at least 0"),
    ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\)"),
  ],
)
def test_numbers_out_of_their_range(arguments, message):
  with pytest.raises(ValueError, match=message):
    augmented(lambda: None, num_classes=2, **arguments)
