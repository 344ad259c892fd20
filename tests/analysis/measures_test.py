"""Measures against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from tiny import init

from sparse_regimes import SparseActivation, WideResNet, analysis
from sparse_regimes.layers import sparse_activation
from sparse_regimes.models import mlp_block
from sparse_regimes.models.residual_mlp import ResidualMLP
from sparse_regimes.models.vision_transformer import VisionTransformer
from sparse_regimes.training.losses import cross_entropy

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))
LABELS = jnp.array([1, 4, 9])
MODELS = {
  "mlp": ResidualMLP(width=16, depth=2, zeroth_bias="input"),
  "vit": VisionTransformer(depth=2, width=16, heads=2, mlp_width=24, patch=4),
  "wrn": WideResNet(10, 1),
}


def variables_of(model):
  variables = init(model, IMAGES)
  # Zeros where a bias begins hide mistakes.
  leaves, tree = jax.tree.flatten(variables)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  moved = [
    x + 0.1 * jax.random.normal(k, x.shape)
    for k, x in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(tree, moved)


def probed(name, keep_ratio=1.0, **arguments):
  model = MODELS[name]
  variables = variables_of(model)
  layers = jax.jit(
    lambda v: analysis.probe(
      model.apply, v, IMAGES, LABELS, keep_ratio, **arguments
    )
  )(variables)
  return model, variables, layers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "vit"])
@pytest.mark.parametrize("keep_ratio", [1.0, 0.2])
def test_the_identity_of_augmented_flatness(name, keep_ratio):
  """Active fraction = AF / (T n c), for ReLU exactly, masked or not."""
  _, _, layers = probed(name, keep_ratio)
  assert len(layers) == 2
  for layer in layers.values():
    flatness = analysis.augmented_flatness(layer.input, layer.pre_gradient)
    c = analysis.l0_coefficient(
      layer.input, layer.hidden, layer.hidden_gradient
    )
    entries = float(np.prod(layer.hidden.shape[1:]))
    active = analysis.active_fraction(layer.hidden, above=0.0)
    assert 0 < active < 1
    np.testing.assert_allclose(flatness / (entries * c), active, rtol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "vit", "wrn"])
def test_gradients_are_those_of_finite_differences(name):
  # Of one layer alone, as every other is one more to compile for.
  site = {
    "mlp": "block1/site",
    "vit": "block1_mlp/site",
    "wrn": "SparseActivation_6",
  }[name]
  model, variables, layers = probed(name, layers=(site,))
  layer = layers[site]
  module, leaf = site.split("/") if "/" in site else (None, site)
  direction = jax.random.normal(KEY, layer.hidden.shape)

  @jax.jit
  def loss(size):
    moved = {"hidden": size * direction}
    perturbations = {leaf: moved} if module is None else {module: {leaf: moved}}
    logits, _ = model.apply(
      {**variables, "perturbations": perturbations}, IMAGES, 1.0
    )
    return jnp.sum(cross_entropy(logits, LABELS))

  step = 1e-2
  slope = (loss(step) - loss(-step)) / (2 * step)
  expected = jnp.vdot(direction, layer.hidden_gradient)
  np.testing.assert_allclose(slope, expected, rtol=2e-2, atol=1e-3)
  # Rounded twice, as what comes before a norm is computed for each.
  active = jax.nn.relu(layer.pre)
  np.testing.assert_allclose(layer.hidden, active, rtol=2e-6, atol=1e-7)
  np.testing.assert_array_equal(layer.hidden > 0, layer.pre > 0)
  np.testing.assert_array_equal(
    layer.pre_gradient, jnp.where(layer.pre > 0, layer.hidden_gradient, 0)
  )


@pytest.mark.slow
def test_a_probe_names_layers_and_refuses_others():
  _, _, layers = probed("wrn")
  # In the order of the network, and as many as it has sites.
  assert [layer.hidden.shape[-1] for layer in layers.values()] == (
    [16] * 3 + [32] * 2 + [64] * 2
  )
  one = list(layers)[2]
  assert list(probed("wrn", layers=(one,))[2]) == [one]
  with pytest.raises(ValueError, match="layers must be among block0/site, bl"):
    probed("mlp", layers=("block7/site",))


@pytest.mark.slow
def test_a_probe_changes_nothing(monkeypatch):
  model, variables, _ = probed("vit")
  assert set(model.init(KEY, IMAGES, 1.0)) == {"params"}

  def program():
    return str(jax.make_jaxpr(lambda v: model.apply(v, IMAGES, 0.5))(variables))

  plain = program()
  for room in (mlp_block, sparse_activation):
    monkeypatch.setattr(room, "tap", lambda module, name, value: value)
  assert program() == plain


def test_a_network_without_sites_is_named():
  class Plain(nn.Module):
    @nn.compact
    def __call__(self, images, keep_ratio, train=False):
      del keep_ratio, train
      return nn.Dense(10)(images.reshape(len(images), -1)), jnp.ones(1)

  model = Plain()
  variables = model.init(KEY, IMAGES, 1.0)
  with pytest.raises(ValueError, match="with SparseActivation modules"):
    analysis.probe(model.apply, variables, IMAGES, LABELS)


def test_a_site_that_is_called_twice_is_named():
  class Twice(nn.Module):
    @nn.compact
    def __call__(self, images, keep_ratio, train=False):
      del train
      act = SparseActivation(name="act")
      x = act(nn.Dense(4)(images.reshape(len(images), -1)), keep_ratio)
      return nn.Dense(10)(act(nn.Dense(4)(x), keep_ratio)), jnp.ones(1)

  model = Twice()
  variables = model.init(KEY, IMAGES, 1.0)
  model.apply(variables, IMAGES, 0.5)
  with pytest.raises(ValueError, match="act must be called once to be looked"):
    analysis.probe(model.apply, variables, IMAGES, LABELS)


@pytest.mark.slow
def test_all_measures_of_a_transformer_are_numpy_s():
  model, variables, layers = probed("vit", 0.3)
  measured = jax.jit(
    lambda v: analysis.measure_layers(
      model.apply, v, IMAGES, LABELS, 0.3, flat=(-np.inf, 0.0)
    )
  )(variables)
  assert list(measured) == list(layers)
  for name, layer in layers.items():
    x, pre, hidden, eta, slope = (
      np.asarray(v, np.float64)
      for v in (
        *(layer.input, layer.pre, layer.hidden, layer.pre_gradient),
        layer.output_gradient,
      )
    )
    expected = {
      "active": np.mean(np.abs(hidden) > 1e-6),
      "derivative": np.mean(pre > 0),
      "effective": [np.mean(np.abs(eta) > s) for s in (1e-9, 1e-6, 1e-3)],
      "eta_l1": np.abs(eta).sum(-1).mean(),
      "eta_square": (eta**2).sum(-1).mean(),
      "output_gradient": np.sqrt((slope**2).sum(-1)).mean(),
      "flatness": ((eta**2).sum(-1) * (x**2).sum(-1)).sum(1).mean(),
      "flatness_behind": ((slope**2).sum(-1) * (hidden**2).sum(-1))
      .sum(1)
      .mean(),
    }
    for field, value in expected.items():
      got = getattr(measured[name], field)
      np.testing.assert_allclose(got, value, rtol=1e-4, err_msg=field)


def test_what_is_not_a_number_is_not_sparse():
  x = jnp.array([jnp.nan, 0.0])
  assert analysis.active_fraction(x) == 0.5
  assert analysis.outside_flat(x, -jnp.inf, 0.0) == 0.5
  np.testing.assert_array_equal(analysis.effective_gradient_fractions(x), 0.5)


def test_shares():
  a = jnp.array([[0.0, 1e-7, -1e-5], [2.0, -3.0, 0.0]])
  assert analysis.active_fraction(a) == pytest.approx(0.5)
  assert analysis.active_fraction(a, above=2.5) == pytest.approx(1 / 6)
  assert analysis.outside_flat(a, -jnp.inf, 0.0) == pytest.approx(2 / 6)
  got = analysis.effective_gradient_fractions(a)
  np.testing.assert_allclose(got, [4 / 6, 3 / 6, 2 / 6], rtol=1e-6)
  l1, square = analysis.gradient_norms(a)
  np.testing.assert_allclose(l1, np.abs(a).sum(1).mean(), rtol=1e-6)
  np.testing.assert_allclose(square, (a**2).sum(1).mean(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_gram_eigenvalues_are_numpy_s(shape):
  kernel = np.random.default_rng(0).normal(size=shape)
  k = kernel.T
  expected = np.sort(np.linalg.eigvalsh(k @ k.T))[::-1]
  got = analysis.gram_eigenvalues(jnp.asarray(kernel, jnp.float32))
  assert got.shape == (shape[1],)
  np.testing.assert_allclose(got, np.maximum(expected, 0), atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_concentration_is_the_shortest_interval(seed):
  rng = np.random.default_rng(seed)
  values = 10 ** rng.normal(0, 1.5, 23)
  kept = np.sort(np.log10(values[values > 0.1]))
  # Every interval between two eigenvalues that holds four in five.
  widths = [
    b - a
    for a in kept
    for b in kept
    if ((kept >= a) & (kept <= b)).sum() >= 0.8 * len(kept)
  ]
  got = analysis.concentration(values)
  assert got.ratio == pytest.approx(10 ** min(widths))
  assert got.near_zero == np.mean(values <= 0.1)
  large = values[values > 0.1 * values.mean()]
  assert got.extreme_ratio == pytest.approx(large.max() / large.min())


@pytest.mark.slow
def test_spectra_of_a_network_and_of_nothing():
  params = variables_of(MODELS["wrn"])["params"]
  found = analysis.spectra(params)
  assert "head/kernel" in found
  assert len(found) == sum(p.ndim >= 2 for p in jax.tree.leaves(params))
  assert np.isnan(analysis.concentration(np.zeros(3)).ratio)


@pytest.mark.slow
def test_hessian_trace_of_a_quadratic():
  rng = np.random.default_rng(0)
  m = jnp.asarray(rng.normal(size=(6, 6)), jnp.float32)
  matrix = m @ m.T

  def loss(params):
    w = jnp.concatenate([params["a"], params["b"]])
    return 0.5 * w @ matrix @ w

  params = {"a": jnp.ones(2), "b": jnp.ones(4)}
  trace, error = analysis.hessian_trace(loss, params, KEY, num_samples=4000)
  assert abs(trace - jnp.trace(matrix)) < 4 * error
  # The variance of Hutchinson's estimate: twice the squares off the diagonal.
  off = float(jnp.sum(matrix**2) - jnp.sum(jnp.diag(matrix) ** 2))
  assert error == pytest.approx(np.sqrt(2 * off / 4000), rel=0.1)


def test_sharpness_of_a_quadratic():
  def loss(w):
    return 0.5 * jnp.sum(jnp.array([1.0, 4.0]) * w**2)

  w = jnp.array([1.0, 1.0])
  g = np.array([1.0, 4.0])
  moved = np.array([1.0, 1.0]) + 0.1 * g / np.linalg.norm(g)
  expected = 0.5 * (moved**2 @ np.array([1.0, 4.0])) - 2.5
  assert analysis.sharpness(loss, w, radius=0.1) == pytest.approx(
    expected, rel=1e-4
  )
  assert analysis.sharpness(loss, jnp.zeros(2)) == 0


def test_fgsm_on_a_linear_network():
  weights = jax.random.normal(KEY, (4, 3))
  images = jax.random.uniform(jax.random.key(3), (64, 4))

  def classify(x):
    return (x - 0.5) @ weights

  labels = jnp.argmax(classify(images), axis=1)
  moved = analysis.fgsm(classify, images, labels, epsilon=0.01)
  assert float(jnp.abs(moved - images).max()) <= 0.01 + 1e-6
  assert moved.min() >= 0
  assert moved.max() <= 1
  before = cross_entropy(classify(images), labels)
  after = cross_entropy(classify(moved), labels)
  assert (after >= before).all()
  accuracy = [
    analysis.fgsm_accuracy(classify, images, labels, epsilon=e)
    for e in (0.0, 0.1, 0.5)
  ]
  assert accuracy[0] == 1
  assert accuracy[0] > accuracy[1] > accuracy[2]


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: analysis.active_fraction(X, above=-1), "above must be at least"),
    (lambda: analysis.outside_flat(X, 1, 0), "low must be at most high"),
    (lambda: analysis.concentration(X, share=0), "share must be in"),
    (
      lambda: analysis.hessian_trace(jnp.sum, X, KEY, num_samples=0),
      "num_samples must be at least 1",
    ),
    (lambda: analysis.sharpness(jnp.sum, X, radius=-1), "radius must be at"),
    (
      lambda: analysis.fgsm(jnp.sum, X, X, epsilon=-1),
      "epsilon must be at least 0",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


X = jnp.ones(3)
