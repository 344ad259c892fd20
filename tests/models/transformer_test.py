import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes import num_kept
from sparse_regimes.layers import gathered_product
from sparse_regimes.layers.gathered import padded
from sparse_regimes.models import Transformer
from sparse_regimes.models.decoder_block import rotated

KINDS = {
  "plain": {},
  "gated": {
    "positions": "rotary",
    "norm": "rms",
    "gated": True,
    "activation": "silu",
    "mask_attention": True,
  },
  "untied": {"activation": "relu", "tied": False},
}
TOKENS = jax.random.randint(jax.random.key(1), (2, 16), 0, 65)


@pytest.fixture(params=KINDS)
def model_and_variables(request):
  model = Transformer(
    depth=2,
    width=32,
    heads=2,
    context=16,
    vocabulary=65,
    **KINDS[request.param],
  )
  return model, model.init(jax.random.key(0), TOKENS, 1.0)


def test_each_token_has_its_budget(model_and_variables):
  model, variables = model_and_variables
  _, stats = model.apply(variables, TOKENS, 0.25)
  widths = [
    model.width if "attention" in name else model.hidden_width
    for name in model.site_names
  ]
  expected = [int(num_kept(width, 0.25)) / width for width in widths]
  np.testing.assert_allclose(stats, expected, rtol=1e-5)


@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_the_future_is_not_seen(model_and_variables, ratio):
  model, variables = model_and_variables
  logits, _ = model.apply(variables, TOKENS, ratio)
  other, _ = model.apply(variables, TOKENS.at[:, 10:].set(0), ratio)
  np.testing.assert_allclose(logits[:, :10], other[:, :10], atol=1e-6)
  assert np.abs(logits - other)[:, 10:].max() > 1e-3


def test_with_what_was_seen_it_is_the_same(model_and_variables):
  model, variables = model_and_variables
  expected, _ = model.apply(variables, TOKENS, 0.3)
  cache = model.empty_cache(2)
  parts = []
  for start, end in ((0, 5), (5, 6), (6, 9), (9, 16)):
    logits, cache = model.apply(
      variables, TOKENS[:, start:end], 0.3, cache=cache
    )
    parts.append(logits)
  assert cache.length == 16
  np.testing.assert_allclose(
    jnp.concatenate(parts, axis=1), expected, atol=3e-5
  )


def test_gathered_it_is_the_same(model_and_variables):
  model, variables = model_and_variables
  cache = model.empty_cache()
  _, cache = model.apply(variables, TOKENS[:1, :5], 0.3, cache=cache)
  rows = padded(int(num_kept(model.hidden_width, 0.3)), model.hidden_width)
  assert rows < model.hidden_width
  whole, gathered = (
    model.apply(
      variables, TOKENS[:1, 5:6], 0.3, cache=cache, num_gathered=number
    )[0]
    for number in (None, rows)
  )
  np.testing.assert_allclose(whole, gathered, atol=1e-5)


def test_rotary_products_depend_on_the_distance():
  query, key = jax.random.normal(jax.random.key(2), (2, 1, 1, 1, 8))

  def product(i, j):
    at = rotated(query, jnp.array([i])), rotated(key, jnp.array([j]))
    return float(jnp.sum(at[0] * at[1]))

  assert product(3, 1) == pytest.approx(product(12, 10), abs=1e-5)
  assert product(3, 1) != pytest.approx(product(3, 2), abs=1e-3)


def test_the_gathered_product_reads_what_is_not_zero():
  rng = np.random.default_rng(0)
  x = np.where(rng.random(100) < 0.2, rng.normal(size=100), 0).astype("float32")
  kernel = rng.normal(size=(100, 7)).astype("float32")
  number = padded(np.count_nonzero(x), 100)
  got = gathered_product(jnp.asarray(x), jnp.asarray(kernel), number)
  np.testing.assert_allclose(got, x @ kernel, atol=1e-5)


def test_short_floats_are_summed_in_long_ones():
  rng = np.random.default_rng(0)
  x, kernel = (
    jnp.asarray(rng.random(shape), jnp.bfloat16)
    for shape in ((4096,), (4096, 3))
  )
  exact = np.asarray(x, np.float32) @ np.asarray(kernel, np.float32)
  got = gathered_product(x, kernel, 4096)
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(got, np.float32), exact, rtol=0.005)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"scope": "global"}, "scope must be channel, .* later ones would decide"),
    ({"heads": 3}, "heads must divide the width of 128, got 3"),
    ({"width": 12, "heads": 4, "positions": "rotary"}, "an even width"),
    ({"positions": "none"}, "positions must be one of learned, rotary"),
    ({"norm": "batch"}, "norm must be one of layer, rms"),
    ({"activation": "sine"}, "activation must be one of"),
    ({"dropout": 1.0}, "dropout must be"),
  ],
)
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    Transformer(**fields)
  with pytest.raises(ValueError, match="at most the context of 4, got 16"):
    Transformer(context=4).init(jax.random.key(0), TOKENS, 1.0)
