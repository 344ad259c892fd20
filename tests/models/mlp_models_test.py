"""The vision transformer and the residual MLP, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from tiny import apply, init

from sparse_regimes.models.residual_mlp import ResidualMLP
from sparse_regimes.models.vision_transformer import VisionTransformer


def variables_of(model, images):
  """Parameters none of which is 0 or 1, as initial biases and scales are."""
  with jax.numpy_dtype_promotion("standard"):
    params = init(model, images)["params"]
  leaves, tree = jax.tree.flatten(params)
  draw = np.random.default_rng(0)
  return {
    "params": jax.tree.unflatten(
      tree,
      [
        leaf + jnp.asarray(draw.normal(0, 0.1, leaf.shape), jnp.float32)
        for leaf in leaves
      ],
    )
  }


def applied(model, variables, images, keep_ratio=1.0):
  with jax.numpy_dtype_promotion("standard"):
    logits, stats = apply(model, variables, images, keep_ratio)
  return np.asarray(logits), np.asarray(stats)


def float64(variables):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])


def layer_norm(x, p):
  centred = x - x.mean(-1, keepdims=True)
  scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
  return scaled * p["scale"] + p.get("bias", 0.0)


def dense(x, p):
  return x @ p["kernel"] + p["bias"]


def mlp(x, p):
  """P and A of a block, with whatever modules it has parameters of."""
  x = layer_norm(x, p["norm"])
  if "bias" in p:
    x = x + p["bias"]["zeroth_bias"]
  hidden = np.maximum(dense(x, p["linear1"]), 0)
  return dense(hidden, p["linear2"]) if "linear2" in p else hidden


def attention(x, p):
  q, k, v = (
    np.einsum("btd,dhn->bhtn", x, p[name]["kernel"]) + p[name]["bias"][:, None]
    for name in ("query", "key", "value")
  )
  scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
  y = softmax(scores, axis=-1) @ v
  return np.einsum("bhtn,hnd->btd", y, p["out"]["kernel"]) + p["out"]["bias"]


@pytest.mark.slow
@pytest.mark.parametrize(
  "modules", [{}, {"norm": "restricted", "zeroth_bias": "input"}]
)
def test_the_vision_transformer(modules):
  model = VisionTransformer(depth=2, width=8, heads=2, patch=2, **modules)
  images = np.random.default_rng(1).normal(size=(3, 4, 6, 3))
  variables = variables_of(model, jnp.asarray(images, jnp.float32))
  got, _ = applied(model, variables, jnp.asarray(images, jnp.float32))
  p = float64(variables)
  # A token of 2 x 2 pixels, row by row.
  patches = images.reshape(3, 2, 2, 3, 2, 3).swapaxes(2, 3).reshape(3, 6, 12)
  x = patches @ p["embed"]["kernel"].reshape(12, 8) + p["embed"]["bias"]
  x = x + p["positions"]
  for i in range(2):
    y = layer_norm(x, p[f"block{i}_norm"])
    x = x + attention(y, p[f"block{i}_attention"])
    x = x + mlp(x, p[f"block{i}_mlp"])
  wanted = dense(layer_norm(x, p["norm"]).mean(1), p["head"])
  np.testing.assert_allclose(got, wanted, atol=2e-5)


@pytest.mark.parametrize(
  "modules", [{}, {"norm": "restricted", "zeroth_bias": "input"}]
)
def test_the_residual_mlp(modules):
  model = ResidualMLP(width=8, depth=3, **modules)
  images = np.random.default_rng(1).normal(size=(4, 2, 3, 3))
  variables = variables_of(model, jnp.asarray(images, jnp.float32))
  got, _ = applied(model, variables, jnp.asarray(images, jnp.float32))
  p = float64(variables)
  z = dense(images.reshape(4, -1), p["stem"])
  for i in range(3):
    z = z + mlp(z, p[f"block{i}"])
  wanted = dense(layer_norm(z, p["norm"]), p["head"])
  np.testing.assert_allclose(got, wanted, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
  "model",
  [
    VisionTransformer(depth=2, width=16, heads=2, patch=4),
    ResidualMLP(width=32, depth=2),
  ],
)
def test_a_budget_bounds_every_site(model):
  images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  variables = variables_of(model, images)
  dense_logits, dense_share = applied(model, variables, images)
  logits, share = applied(model, variables, images, 0.05)
  assert (share <= 0.05 + 1e-6).all()
  assert (share < dense_share).all()
  assert not np.allclose(logits, dense_logits)


@pytest.mark.parametrize(
  ("size", "depth", "width", "heads"),
  [("Ti", 12, 192, 3), ("S", 12, 384, 6), ("B", 12, 768, 12)],
)
def test_sizes_have_their_number_of_parameters(size, depth, width, heads):
  model = VisionTransformer(size=size, patch=16, num_classes=1000)
  images = jnp.zeros((1, 224, 224, 3))

  def init():
    with jax.numpy_dtype_promotion("standard"):
      return model.init(jax.random.key(0), images, 1.0)["params"]

  params = jax.eval_shape(init)
  block = 4 * (width**2 + width) + 8 * width**2 + 5 * width + 4 * width
  wanted = 3 * 16**2 * width + width + 196 * width + depth * block
  wanted += 2 * width + 1000 * width + 1000
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == wanted
  query = params["block0_attention"]["query"]["kernel"]
  assert query.shape == (width, heads, width // heads)
  # As published, less the class token and its position: 5.7, 22 and 86 million.
  assert wanted / 1e6 == pytest.approx(
    {"Ti": 5.7, "S": 22.05, "B": 86.6}[size], rel=0.01
  )


def test_multiply_adds_of_a_transformer():
  """Products of matrices, counted one after another."""
  model = VisionTransformer(depth=3, width=8, heads=2, mlp_width=5, patch=2)
  tokens = 2 * 3
  total, behind = model.multiply_adds(4, 6)
  one_block = (
    3 * tokens * 8 * 8  # queries, keys, values
    + 2 * (tokens * tokens * 8)  # scores and their sums
    + tokens * 8 * 8  # output
    + tokens * 8 * 5
    + tokens * 5 * 8
  )
  assert total == tokens * 12 * 8 + 3 * one_block + 8 * 10
  assert behind == {f"block{i}_mlp": tokens * 5 * 8 for i in range(3)}


def test_multiply_adds_of_a_residual_mlp():
  total, behind = ResidualMLP(width=7, depth=2).multiply_adds(2, 3)
  assert total == 18 * 7 + 2 * 7 * 7 + 7 * 10
  assert behind == {"block0": 0, "block1": 0}


@pytest.mark.parametrize(
  "model",
  [
    VisionTransformer(depth=1, width=16, heads=2, patch=4, dropout=0.5),
    ResidualMLP(width=16, depth=1, dropout=0.5),
  ],
)
def test_a_call_evaluates_unless_it_is_told_to_train(model):
  images = jnp.ones((2, 8, 8, 3))
  variables = init(model, images)
  logits, _ = jax.jit(model.apply)(variables, images, 0.5)
  np.testing.assert_allclose(
    logits, apply(model, variables, images, 0.5)[0], rtol=1e-5
  )
