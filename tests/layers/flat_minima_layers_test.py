"""Zeroth bias, restricted layer norm, synaptic noise, and their projections."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from tiny import apply, init

from sparse_regimes.layers import (
  RestrictedLayerNorm,
  SynapticNoise,
  ZerothBias,
  synaptic_noise,
)
from sparse_regimes.models.mlp_block import MLPBlock
from sparse_regimes.models.residual_mlp import ResidualMLP
from sparse_regimes.models.vision_transformer import VisionTransformer
from sparse_regimes.training import projections

KEY = jax.random.key(0)


def test_a_zeroth_bias_is_shared_over_the_batch():
  x = jax.random.normal(KEY, (2, 3, 4))
  bias = jnp.arange(20.0).reshape(5, 4)
  layer = ZerothBias(max_length=5)
  assert layer.init(KEY, x)["params"]["zeroth_bias"].shape == (5, 4)
  y = layer.apply({"params": {"zeroth_bias": bias}}, x)
  np.testing.assert_allclose(y, x + np.asarray(bias)[None, :3], rtol=1e-6)
  flat = ZerothBias().apply({"params": {"zeroth_bias": bias[:1]}}, x[:, 0])
  expected = x[:, 0] + np.asarray(bias)[None, 0]
  np.testing.assert_allclose(flat, expected, rtol=1e-6)


def test_a_zeroth_bias_shorter_than_the_sequence_is_named():
  x = jnp.zeros((2, 3, 4))
  with pytest.raises(ValueError, match="must be at least the 3 positions"):
    ZerothBias(max_length=2).init(KEY, x)
  params = {"params": {"zeroth_bias": jnp.zeros((2, 4))}}
  with pytest.raises(ValueError, match="3 positions of its input, got 2"):
    ZerothBias().apply(params, x)
  with pytest.raises(ValueError, match="max_length must be at least 1"):
    ZerothBias(max_length=0)


def test_restricted_layer_norm_is_flax_s():
  x = jax.random.normal(KEY, (2, 3, 8)) * 3 + 1
  plain = nn.LayerNorm(1e-6, use_fast_variance=False)
  params = plain.init(KEY, x)["params"]
  params = jax.tree.map(lambda p: p + 0.5, params)
  np.testing.assert_allclose(
    RestrictedLayerNorm(frozen_bias=True).apply({"params": params}, x),
    plain.apply({"params": params}, x),
    atol=1e-5,
  )

  def total(p):
    return jnp.sum(RestrictedLayerNorm(True).apply({"params": p}, x) ** 2)

  grads = jax.grad(total)(params)
  assert (grads["bias"] == 0).all()
  assert (grads["scale"] != 0).any()
  assert "bias" not in RestrictedLayerNorm().init(KEY, x)["params"]


def test_noise_has_the_law_of_noise_on_the_weights():
  kernel = jax.random.normal(KEY, (6, 2))
  x = jax.random.normal(jax.random.key(1), (6,))
  many = jnp.broadcast_to(x, (40_000, 6))
  noise = synaptic_noise(jax.random.key(2), many, kernel, rho=0.3)
  std = 0.3 * np.sqrt(np.mean(np.square(kernel))) * np.linalg.norm(x)
  assert float(noise.std()) == pytest.approx(std, rel=0.02)
  assert abs(float(noise.mean())) < 4 * std / np.sqrt(noise.size)
  # Outputs are independent.
  assert abs(float(np.corrcoef(np.asarray(noise).T)[0, 1])) < 0.03
  first = synaptic_noise(
    jax.random.key(2), many, kernel, rho=0.3, differentiable_scale=True
  )
  ratio = np.mean(np.abs(kernel)) / np.sqrt(np.mean(np.square(kernel)))
  np.testing.assert_allclose(first, noise * ratio, rtol=1e-4)


@pytest.mark.parametrize("differentiable", [False, True])
def test_gradients_pass_through_the_scale_in_the_first_version_only(
  differentiable,
):
  x = jnp.concatenate([jax.random.normal(KEY, (3, 4)), jnp.zeros((1, 4))])
  layer = SynapticNoise(5, differentiable_scale=differentiable)
  variables = layer.init(KEY, x, train=False)

  def total(variables, train):
    y = layer.apply(variables, x, train=train, rngs={"synapse": KEY})
    return jnp.sum(y)

  quiet = jax.grad(total)(variables, False)["params"]["kernel"]
  noisy = jax.grad(total)(variables, True)["params"]["kernel"]
  assert np.isfinite(noisy).all()
  assert np.array_equal(quiet, noisy) != differentiable
  # Without noise it is flax's dense layer.
  np.testing.assert_allclose(
    layer.apply(variables, x, train=False), nn.Dense(5).apply(variables, x)
  )


def test_noise_is_redrawn_at_every_step_and_absent_in_evaluation():
  model = ResidualMLP(width=8, depth=1, noise=0.5)
  images = jnp.ones((2, 2, 2, 3))
  variables = init(model, images)

  @jax.jit
  def draw(seed):
    rngs = {"synapse": jax.random.key(seed)}
    return model.apply(variables, images, 1.0, train=True, rngs=rngs)[0]

  draws = [draw(seed) for seed in (1, 1, 2)]
  np.testing.assert_array_equal(draws[0], draws[1])
  assert (draws[0] != draws[2]).any()
  quiet = apply(model, variables, images)[0]
  assert (quiet != draws[0]).any()


def project(tx, params, grads, steps=1):
  @jax.jit
  def step(params, state):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  state = tx.init(params)
  for _ in range(steps):
    # Optax's Adam promotes types by itself.
    with jax.numpy_dtype_promotion("standard"):
      params, state = step(params, state)
  return params


def test_the_bound_can_be_a_hyperparameter():
  tx = optax.inject_hyperparams(projections.zeroth_bias, static_args="scales")(
    scales={"zeroth_bias": None}, c=0.25
  )
  params = {"zeroth_bias": jnp.zeros((1, 2))}

  @jax.jit
  def after(state):
    grads = {"zeroth_bias": jnp.ones((1, 2))}
    updates, _ = tx.update(grads, state, params)
    return optax.apply_updates(params, updates)["zeroth_bias"]

  state = tx.init(params)
  np.testing.assert_array_equal(after(state), 0.25)
  state.hyperparams["c"] = jnp.float32(0.5)
  np.testing.assert_array_equal(after(state), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [optax.sgd(1.0), optax.adamw(0.5)])
def test_zeroth_biases_stay_within_their_bound(optimizer):
  model = VisionTransformer(
    depth=2, width=8, heads=2, patch=4, zeroth_bias="input", norm="restricted"
  )
  params = init(model, jnp.zeros((1, 8, 8, 3)))["params"]
  tx = optax.chain(
    optimizer,
    projections.restricted_scale(
      ("block0_mlp/norm/scale", "block1_mlp/norm/scale")
    ),
    projections.zeroth_bias(c=0.1),
  )
  keys = jax.random.split(KEY, 100)
  leaves, tree = jax.tree.flatten(params)
  grads = jax.tree.unflatten(
    tree,
    [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=False)],
  )
  after = project(tx, params, grads, steps=3)
  for i in range(2):
    block = after[f"block{i}_mlp"]
    scale = block["norm"]["scale"]
    assert (scale >= 1 - 1e-6).all()
    bias = np.abs(block["bias"]["zeroth_bias"])
    assert bias.max() > 0.05
    assert (bias <= 0.1 * np.abs(scale) + 1e-6).all()
  # Nothing else is touched.
  free = project(optimizer, params, grads, steps=3)
  np.testing.assert_allclose(
    after["head"]["kernel"], free["head"]["kernel"], rtol=1e-6
  )


def test_without_c_nothing_is_projected():
  params = {"b": {"zeroth_bias": jnp.zeros((1, 2))}}
  grads = {"b": {"zeroth_bias": jnp.full((1, 2), -9.0)}}
  tx = optax.chain(optax.sgd(1.0), projections.zeroth_bias(c=None))
  assert (project(tx, params, grads)["b"]["zeroth_bias"] == 9).all()
  tx = optax.chain(
    optax.sgd(1.0), projections.zeroth_bias({"b/zeroth_bias": None}, c=0.25)
  )
  assert (project(tx, params, grads)["b"]["zeroth_bias"] == 0.25).all()


def test_the_uplift_keeps_signs_and_ends_at_one():
  params = {"norm": {"scale": jnp.array([-0.2, 0.0, 0.5, -3.0])}}
  grads = jax.tree.map(jnp.zeros_like, params)
  tx = projections.restricted_scale(("norm/scale",), uplift_steps=4)
  for steps, expected in (
    (1, [-0.25, 0.25, 0.5, -3.0]),
    (3, [-0.75, 0.75, 0.75, -3.0]),
    (6, [-1.0, 1.0, 1.0, -3.0]),
  ):
    scale = project(tx, params, grads, steps)["norm"]["scale"]
    np.testing.assert_allclose(scale, expected, atol=1e-6)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: projections.zeroth_bias(c=-0.1), "c must be at least 0"),
    (lambda: projections.restricted_scale(()), "scales must name a layer norm"),
    (
      lambda: projections.restricted_scale(("a",), uplift_steps=-1),
      "uplift_steps must be in",
    ),
    (
      lambda: projections.restricted_scale(("a/b",)).init({"c": jnp.ones(1)}),
      "paths must be those of parameters, got 'a/b'",
    ),
    (
      lambda: projections.zeroth_bias().init({"c": jnp.ones(1)}),
      "got params without any",
    ),
    (
      lambda: projections.zeroth_bias().init(
        {"block": {"bias": {"zeroth_bias": jnp.ones((1, 1))}}}
      ),
      "which norm block/bias/zeroth_bias refers to, got none beside it;"
      " {'block/bias/zeroth_bias': None} is a scale of 1",
    ),
    (
      lambda: projections.restricted_scale("norm/scale"),
      "scales must be a tuple of paths, got 'norm/scale'",
    ),
    (
      lambda: projections.frozen("norm/bias"),
      "paths must be a tuple of paths, got 'norm/bias'",
    ),
    (lambda: SynapticNoise(3, rho=-1.0), "rho must be at least 0"),
    (lambda: ResidualMLP(noise=-1.0), "noise must be at least 0"),
    (
      lambda: ResidualMLP(zeroth_bias="both"),
      "zeroth_bias must be one of none",
    ),
    (lambda: ResidualMLP(norm="rms"), "norm must be one of ln, restricted"),
    (lambda: VisionTransformer(size="L"), "size must be one of Ti, S, B"),
    (lambda: VisionTransformer(width=10, heads=3), "heads must divide the wid"),
  ],
)
def test_bad_input_is_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_images_that_the_patch_does_not_divide():
  model = VisionTransformer(depth=1, width=4, heads=1, patch=3)
  with pytest.raises(ValueError, match="patch must divide images of 8 x 8"):
    model.init(KEY, jnp.zeros((1, 8, 8, 3)), 1.0)


def test_images_of_another_size_than_the_first():
  model = VisionTransformer(
    depth=1, width=4, heads=1, patch=4, zeroth_bias="input"
  )
  variables = init(model, jnp.zeros((1, 8, 8, 3)))
  with pytest.raises(ValueError, match=r"4 patches of the first .* got 16"):
    model.apply(variables, jnp.zeros((1, 16, 16, 3)), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
  "model",
  [
    VisionTransformer(
      depth=1,
      width=16,
      heads=2,
      patch=4,
      zeroth_bias="output",
      noise=0.1,
      differentiable_noise=True,
      dtype=jnp.bfloat16,
    ),
    ResidualMLP(width=16, depth=1, zeroth_bias="output", dtype=jnp.bfloat16),
  ],
  ids=lambda model: type(model).__name__,
)
def test_models_compute_in_bfloat16(model):
  images = jax.random.normal(KEY, (2, 8, 8, 3))
  with jax.numpy_dtype_promotion("standard"):
    variables = init(model, images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.float32.dtype}

    def loss(params):
      logits, _ = model.apply(
        {"params": params}, images, 0.3, train=True, rngs={"synapse": KEY}
      )
      return jnp.sum(logits[:, 0])

    value, grads = jax.jit(jax.value_and_grad(loss))(variables["params"])
  assert value.dtype == jnp.float32
  finite = [np.isfinite(g).all() for g in jax.tree.leaves(grads)]
  assert all(finite)
  (bias,) = (
    g
    for path, g in jax.tree_util.tree_leaves_with_path(grads)
    if "zeroth_bias" in str(path)
  )
  assert (bias != 0).any()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"norm": "rms"}, "norm must be one of"),
    ({"zeroth_bias": "in"}, "zeroth_bias must be one of"),
    ({"noise": -0.1}, "noise must be"),
    ({"width": 0}, "width must be"),
  ],
)
def test_a_block_names_what_is_wrong(arguments, message):
  with pytest.raises(ValueError, match=message):
    MLPBlock(**{"width": 4} | arguments)
