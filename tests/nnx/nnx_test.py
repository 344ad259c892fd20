import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from tiny import apply, init

import sparse_regimes as sr
from sparse_regimes import controllers
from sparse_regimes.models import ResidualMLP

IMAGES = jax.random.normal(jax.random.key(0), (16, 4, 4, 3))
BATCH = {"images": IMAGES, "labels": jnp.arange(16) % 10}


class Net(nnx.Module):
  """Batch norm, two dropouts, two sites, layers in a list."""

  def __init__(self, rngs):
    self.layers = nnx.List(
      [nnx.Linear(48, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)]
    )
    self.norm = nnx.BatchNorm(32, rngs=rngs)
    self.dropouts = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
    self.first = sr.nnx.SparseActivation(site=0)
    self.second = sr.nnx.SparseActivation("identity", score="magnitude", site=1)

  def __call__(self, images, keep_ratio):
    x = self.layers[0](images.reshape(len(images), -1))
    x = self.dropouts[0](self.first(self.norm(x), keep_ratio))
    x = self.dropouts[1](self.second(x, keep_ratio))
    return self.layers[1](x)


def start(variables, tx, controller):
  return sr.TrainState.create(
    variables, tx=tx, controller=controller, rng=jax.random.key(3)
  )


@pytest.mark.slow
@pytest.mark.parametrize("keep_ratio", [0.3, 1.0, (0.2, 0.7)])
def test_equal_parameters_give_the_logits_of_linen(keep_ratio):
  linen = ResidualMLP(width=16, depth=2)
  model = sr.nnx.ResidualMLP(48, width=16, depth=2, rngs=nnx.Rngs(1))
  own, apply_fn = sr.nnx.functional(model)
  variables = init(linen, IMAGES)
  assert jax.tree.structure(own["params"]) == jax.tree.structure(
    variables["params"]
  )
  ratio = jnp.asarray(keep_ratio, jnp.float32)
  expected = apply(linen, variables, IMAGES, ratio)
  for got, want in zip(
    jax.jit(apply_fn)(variables, IMAGES, ratio), expected, strict=True
  ):
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.slow
def test_any_model_trains_with_its_statistics_and_dropout():
  model, tx = Net(nnx.Rngs(0)), optax.sgd(0.1)
  controller = controllers.strategy1(decide_every=2)
  variables, apply_fn = sr.nnx.functional(model)
  assert set(variables) == {"params", "batch_stats"}
  state = start(variables, tx, controller)
  before = jax.device_get(state.batch_stats)
  step = sr.make_train_step(apply_fn, tx, controller)
  losses = []
  for _ in range(40):
    state, metrics = step(state, BATCH)
    losses.append(float(metrics["loss"]))
  assert step._cache_size() == 1
  assert np.mean(losses[-5:]) < np.mean(losses[:5])
  assert np.any(before["norm"]["mean"] != state.batch_stats["norm"]["mean"])
  assert {"nonzero/first", "nonzero/second"} <= set(metrics)
  sums = sr.make_eval_step(apply_fn)(state, BATCH, 0.25)
  assert sums["nonzero"]["second"] <= 0.25 * 16
  # The model has its own arrays still.
  assert model(IMAGES, 1.0).shape == (16, 10)
  by_site = sr.make_eval_step(apply_fn)(state, BATCH, jnp.array([0.5, 0.125]))
  assert (
    by_site["nonzero"]["second"] <= 0.125 * 16 < by_site["nonzero"]["first"]
  )


def test_every_stream_draws_of_its_own_and_anew():
  class Drops(nnx.Module):
    def __init__(self, rngs):
      self.drops = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])

    def __call__(self, x, keep_ratio):
      return jnp.stack([drop(x) for drop in self.drops]), jnp.ones(1)

  _, apply_fn = sr.nnx.functional(Drops(nnx.Rngs(0)))
  x = jnp.ones(64)

  def drawn(seed, train=True):
    rngs = {"dropout": jax.random.key(seed)}
    return np.asarray(apply_fn({}, x, 1.0, train=train, rngs=rngs)[0])

  first, second = drawn(0)
  assert np.any(first != second)
  assert np.any(drawn(1) != drawn(0))
  np.testing.assert_array_equal(drawn(0), drawn(0))
  np.testing.assert_array_equal(drawn(0, train=False), np.ones((2, 64)))


def test_a_model_that_says_nothing_of_its_sites_is_named():
  class Plain(nnx.Module):
    def __call__(self, x, keep_ratio, train):
      return -x if train else x

  _, apply_fn = sr.nnx.functional(Plain())
  with pytest.raises(ValueError, match=r"Plain must return \(outputs, stats\)"):
    apply_fn({}, jnp.ones(2), 1.0)


class Block(nnx.Module):
  def __init__(self, rngs):
    self.linear = nnx.Linear(32, 32, rngs=rngs)
    self.activation = sr.nnx.SparseActivation(axis=-1)

  def __call__(self, x, keep_ratio):
    return self.activation(self.linear(x), keep_ratio)


@pytest.mark.slow
def test_jit_remat_scan_and_optimizer_take_it():
  x = jax.random.normal(jax.random.key(0), (4, 32))
  block = Block(nnx.Rngs(0))
  expected = block(x, 0.5)
  np.testing.assert_allclose(
    nnx.jit(lambda m, x, r: m(x, r))(block, x, 0.5), expected, rtol=1e-5
  )
  np.testing.assert_allclose(
    nnx.remat(lambda m, x, r: m(x, r))(block, x, 0.5), expected, rtol=1e-5
  )

  @nnx.split_rngs(splits=3)
  @nnx.vmap(in_axes=(0,), out_axes=0)
  def make(rngs):
    return Block(rngs)

  @nnx.scan(in_axes=(0, nnx.Carry, None), out_axes=nnx.Carry)
  def forward(block, x, keep_ratio):
    return block(x, keep_ratio)

  blocks = make(nnx.Rngs(0))
  y = forward(blocks, x, jnp.float32(0.25))
  assert np.all(np.count_nonzero(y, axis=-1) <= 8)

  optimizer = nnx.Optimizer(block, optax.sgd(0.1), wrt=nnx.Param)

  @nnx.jit
  def step(block, optimizer, keep_ratio):
    def loss_fn(block):
      return jnp.mean(jnp.square(block(x, keep_ratio) - 1))

    loss, grads = nnx.value_and_grad(loss_fn)(block)
    optimizer.update(block, grads)
    return loss

  losses = [float(step(block, optimizer, jnp.float32(0.5))) for _ in range(5)]
  assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"activation": "sine"}, "relu, leakyrelu"),
    ({"scope": "row"}, "scope must be one of global, channel"),
    ({"score": "rank"}, "score must be one of value, magnitude"),
    ({"implementation": "a"}, "implementation must be one of"),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    sr.nnx.SparseActivation(**arguments)
  with pytest.raises(ValueError, match="width must be"):
    sr.nnx.ResidualMLP(4, width=0, rngs=nnx.Rngs(0))
