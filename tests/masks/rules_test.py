"""Masks by name: what all of them must do, and each against NumPy."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.stats import norm

import sparse_regimes as sr
from sparse_regimes.masks import boosting, experts, quantiles
from sparse_regimes.masks.activations import get_activation
from sparse_regimes.masks.gradients import GRADIENTS
from sparse_regimes.masks.mass import max_p_mask, top_p_mask
from sparse_regimes.masks.n_m import along_tokens, n_m_mask
from sparse_regimes.masks.normal_cut import normal_cut
from sparse_regimes.masks.rules import MASKS, make_rule, remembers

EVERY = (
  *("topk", "nm:4", "threshold", "threshold:channel", "statistical"),
  *(
    "threshold:0.3",
    "statistical:soft",
    "top_p",
    "max_p",
    "batch_topk",
    "expert:4",
  ),
  "kwinners:1.5",
)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 5, 16)).astype(np.float32)


def wide(x):
  """For NumPy, which knows no NaN of bfloat16."""
  return np.asarray(x, np.float32)


def test_every_mask_is_here():
  assert {name.partition(":")[0] for name in EVERY} == set(MASKS)


@pytest.mark.parametrize(
  "module",
  [
    *("boosting", "experts", "gradients", "mass", "masking", "n_m"),
    *("normal_cut", "quantiles", "rules"),
  ],
)
def test_examples(module):
  module = importlib.import_module(f"sparse_regimes.masks.{module}")
  failures, tried = doctest.testmod(module)
  assert failures == 0
  assert tried > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scope", ["global", "channel"])
@pytest.mark.parametrize("mask", EVERY)
def test_dense_at_1_and_never_more_than_that(mask, scope, dtype):
  x = jnp.asarray(X, dtype).at[0, 0, 0].set(jnp.nan).at[0, 0, 1].set(-jnp.inf)
  # Of another activation two programs may round otherwise.
  masked = jax.jit(
    lambda x, r: sr.sparse_activation(
      x, r, activation="identity", scope=scope, score="magnitude", mask=mask
    )
  )
  for ratio in (1.0, 1.5):
    np.testing.assert_array_equal(wide(masked(x, ratio)), wide(x))
  x = dense = jnp.asarray(X, dtype)
  before = jnp.sum(dense != 0)
  for ratio in (0.75, 0.5, 0.25, 0.0):
    y = masked(x, ratio)
    assert y.dtype == x.dtype
    if mask != "statistical:soft":
      # What is kept stays what it is.
      np.testing.assert_array_equal(y, jnp.where(y != 0, dense, y))
    # A smaller budget keeps no more; one of 0 does not keep nothing, but for
    # masks that go by a threshold.
    assert jnp.sum(y != 0) <= before
    before = jnp.sum(y != 0)
  # One program for all ratios.
  assert masked._cache_size() == 1


@pytest.mark.parametrize("mask", EVERY)
def test_gradients(mask):
  """Against what the rules say, of the mask that is found."""

  def masked(x, gradient="masked"):
    return sr.sparse_activation(
      x,
      0.5,
      activation="tanh",
      scope="channel",
      score="magnitude",
      mask=mask,
      gradient=gradient,
    )

  x = jnp.asarray(X)
  weight = jnp.asarray(RNG.normal(size=X.shape), jnp.float32)
  slope = 1 - jnp.square(jnp.tanh(x))
  got = {
    gradient: jax.grad(lambda x, g=gradient: jnp.sum(weight * masked(x, g)))(x)
    for gradient in GRADIENTS
  }
  y = masked(x)
  for gradient in GRADIENTS:
    np.testing.assert_array_equal(masked(x, gradient), y)
  np.testing.assert_allclose(got["dense"], weight, rtol=1e-6)
  if mask == "statistical:soft":
    # The cut moves with the scores: by finite differences.
    wide = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    step = 1e-3
    ahead, behind = (masked(x + s * step * wide) for s in (1, -1))
    moved = np.sum(np.asarray(weight * (ahead - behind), np.float64)) / 2 / step
    found = float(jnp.sum(got["masked"] * wide))
    assert found == pytest.approx(moved, rel=0.02)
    return
  np.testing.assert_allclose(got["straight_through"], weight * slope, atol=1e-6)
  expected = jnp.where(y != 0, weight * slope, 0)
  np.testing.assert_allclose(got["masked"], expected, atol=1e-6)


# Of the others a batch shares what is measured.
BY_EXAMPLE = tuple(
  name
  for name in EVERY
  if name not in ("threshold", "threshold:channel", "batch_topk")
)


@pytest.mark.parametrize("mask", BY_EXAMPLE)
def test_examples_may_be_mapped_with_a_budget_each(mask):
  x, ratios = jnp.asarray(X), jnp.linspace(0.2, 1.0, 6)

  def one(x, r):
    return sr.sparse_activation(x[None], r, scope="channel", mask=mask)[0]

  mapped = jax.vmap(one)(x, ratios)
  for i, r in enumerate(ratios):
    np.testing.assert_array_equal(mapped[i], one(x[i], r))


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("nm", "mask must be nm:M, got 'nm'"),
    ("nm:0", "mask must be nm:M, got 'nm:0'"),
    ("nm:2.5", "mask must be nm:M"),
    ("topk:3", "mask must be topk, got 'topk:3'"),
    ("topq", "mask must be one of topk, nm"),
    ("threshold:row", "mask must be threshold:channel"),
    ("threshold:nan", "mask must be threshold:channel, a number"),
    ("expert:x", "mask must be expert:GROUPS"),
    ("kwinners:-1", "mask must be kwinners:STRENGTH"),
    ("kwinners", "mask must be kwinners:STRENGTH"),
  ],
)
def test_masks_that_there_are_not(name, message):
  with pytest.raises(ValueError, match=message):
    make_rule(name)
  with pytest.raises(ValueError, match="mask must be"):
    sr.SparseActivation(mask=name)


def test_other_mistakes_are_named():
  x = jnp.ones((2, 6))
  for mask, message in (
    ("nm:4", "mask nm:4 must have an M that divides the 6 channels"),
    ("expert:4", "groups that divide the 6 channels"),
  ):
    with pytest.raises(ValueError, match=message):
      sr.sparse_activation(x, 0.5, mask=mask)
  with pytest.raises(ValueError, match="m must divide the 6 entries of the"):
    n_m_mask(jnp.ones(6), 2, 4)
  with pytest.raises(ValueError, match="n must be from 0 to m = 4, got 5"):
    n_m_mask(jnp.ones(8), 5, 4)
  with pytest.raises(ValueError, match="gradient must be one of masked"):
    sr.sparse_activation(x, 0.5, gradient="none")
  with pytest.raises(ValueError, match="mask batch_topk shares a budget over"):
    sr.models.Transformer(mask="batch_topk")
  with pytest.raises(ValueError, match="remembers nothing where an actor"):
    sr.models.ActorCritic(mask="threshold")
  with pytest.raises(ValueError, match="channels must be given with mask"):
    sr.nnx.SparseActivation(mask="kwinners:1")


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 8), (8, 16), (0, 2)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_n_of_every_m(n, m, axis):
  x = RNG.integers(-3, 3, size=(16, 32, 48)).astype(np.float32)
  mask = np.asarray(n_m_mask(jnp.asarray(x), jnp.int32(n), m, axis=axis))
  groups = np.moveaxis(x, axis, -1).reshape(-1, m)
  marked = np.moveaxis(mask, axis, -1).reshape(-1, m)
  assert np.all(marked.sum(axis=1) == n)
  # Larger first, of equals the lower index.
  order = np.argsort(-groups, axis=1, kind="stable")
  expected = np.zeros_like(marked)
  np.put_along_axis(expected, order[:, :n], values=True, axis=1)
  np.testing.assert_array_equal(marked, expected)


def test_where_no_group_holds_more_it_is_dense():
  x = np.zeros((4, 32), np.float32)
  x.reshape(4, 8, 4)[:, :, [1, 3]] = RNG.uniform(0.1, 1, size=(4, 8, 2))
  y = sr.sparse_activation(jnp.asarray(x), 0.5, mask="nm:4")
  np.testing.assert_array_equal(y, x)


def test_weight_gradients_of_sparse_tokens():
  x = np.abs(RNG.normal(size=(16, 40))).astype(np.float32)
  x[:, :2] += 1
  x[RNG.random(x.shape) < 0.5] = 0
  x[:, :2] = np.maximum(x[:, :2], 0.1)
  got = np.asarray(along_tokens(jnp.asarray(x), 2, 4, dense_share=0.05))
  # Of 40 features the two that are never zero stay as they are.
  np.testing.assert_array_equal(got[:, :2], x[:, :2])
  kept = np.abs(got[:, 2:]).reshape(4, 4, 38)
  assert np.all((kept != 0).sum(axis=1) <= 2)
  largest = np.sort(x[:, 2:].reshape(4, 4, 38), axis=1)[:, 2:].sum(axis=1)
  np.testing.assert_allclose(kept.sum(axis=1), largest, rtol=1e-6)
  w = jnp.asarray(RNG.normal(size=(40, 3)), jnp.float32)
  g = RNG.normal(size=(16, 3)).astype(np.float32)

  def product(x, w):
    return sr.layers.token_product(x, w, jnp.int32(2), 4, "inputs", 0.05)

  y, pull = jax.vjp(product, jnp.asarray(x), w)
  np.testing.assert_allclose(y, x @ w, rtol=1e-5)
  of_x, of_w = pull(jnp.asarray(g))
  np.testing.assert_allclose(of_x, g @ w.T, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(of_w, got.T @ g, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9, 0.999])
def test_top_p_against_a_sort(p):
  x = RNG.standard_t(2, size=(7, 40)).astype(np.float32)
  x[0] = 1.0
  mask = np.asarray(jax.jit(lambda x, p: top_p_mask(x, p, axis=1))(x, p))
  for row, marked in zip(np.abs(x).astype(np.float64), mask, strict=True):
    order = np.argsort(-row, kind="stable")
    held = np.cumsum(row[order])
    number = int(np.searchsorted(held, p * held[-1] * (1 - 1e-6))) + 1
    expected = np.zeros(40, bool)
    expected[order[:number]] = True
    np.testing.assert_array_equal(marked, expected)


def test_beside_the_largest():
  x = RNG.normal(size=(7, 40)).astype(np.float32)
  expected = np.abs(x) >= 0.4 * np.abs(x).max(axis=1, keepdims=True)
  np.testing.assert_array_equal(
    max_p_mask(jnp.asarray(x), 0.4, axis=1), expected
  )
  y = sr.sparse_activation(
    jnp.asarray(x), 0.6, activation="identity", score="magnitude", mask="max_p"
  )
  np.testing.assert_array_equal(np.asarray(y) != 0, expected)


@pytest.mark.parametrize("r", [0.02, 0.05, 0.3, 0.5, 0.8])
def test_a_normal_cut_keeps_its_share_of_normal_scores(r):
  x = RNG.normal(3, 2, size=(200_000,)).astype(np.float32)
  cut = normal_cut(jnp.asarray(x), r, axis=0)
  assert float(cut[0]) == pytest.approx(
    x.mean() + x.std() * norm.ppf(1 - r), abs=1e-3
  )
  assert np.mean(x > np.asarray(cut)) == pytest.approx(r, abs=0.01)


def test_of_heavy_tails_it_keeps_another_share():
  x = RNG.standard_t(1.5, size=(200_000,)).astype(np.float32)
  share = np.mean(x > np.asarray(normal_cut(jnp.asarray(x), 0.1, axis=0)))
  assert share < 0.05


def test_thresholds_meet_their_budget_where_they_were_measured():
  """On a skewed, a normal and a discrete set, at any ratio, within 0.5 %."""
  for data in (
    RNG.gamma(0.5, size=(4000, 8)),
    RNG.normal(size=(4000, 8)) * np.arange(1, 9),
    np.maximum(RNG.normal(size=(4000, 8)), 0),
  ):
    scores = jnp.asarray(data, jnp.float32)
    for by_channel in (False, True):
      table = quantiles.quantiles_of(scores, by_channel=by_channel)
      state = quantiles.Quantiles(table, jnp.int32(1))
      for r in (0.01, 0.05, 0.3, 0.45):
        kept = data.astype(np.float32) > np.asarray(
          quantiles.threshold(state, r)
        )
        assert float(np.mean(kept)) == pytest.approx(r, abs=0.005)
        if by_channel:
          np.testing.assert_allclose(kept.mean(axis=0), r, atol=0.005)


def test_a_fixed_threshold():
  x = jnp.asarray([[-0.5, 0.05, 0.1, 0.3]])
  y = sr.sparse_activation(x, 0.5, mask="threshold:0.1")
  np.testing.assert_array_equal(y, [[0, 0, 0, np.float32(0.3)]])
  y = sr.sparse_activation(
    x, 0.5, activation="identity", score="magnitude", mask="threshold:0.08"
  )
  np.testing.assert_array_equal(y != 0, [[True, False, True, True]])


def test_the_whole_batch_shares_a_budget():
  x = jnp.asarray(RNG.normal(size=(8, 20)), jnp.float32)
  y = sr.sparse_activation(
    x, 0.1, activation="identity", mask="batch_topk", scope="channel"
  )
  assert int(jnp.sum(y != 0)) == 16
  kth = np.sort(np.asarray(x), axis=None)[-16]
  np.testing.assert_array_equal(np.asarray(y) != 0, np.asarray(x) >= kth)


LEARNS = tuple(name for name in EVERY if remembers(name))


def test_which_masks_remember():
  assert (
    *("threshold", "threshold:channel", "batch_topk", "kwinners:1.5"),
  ) == LEARNS


@pytest.mark.parametrize("mask", LEARNS)
def test_it_learns_in_training_alone(mask):
  layer = sr.SparseActivation("identity", "channel", mask=mask)
  batches = [
    jnp.asarray(np.random.default_rng(i).normal(size=(64, 16)), jnp.float32)
    for i in range(20)
  ]
  variables = layer.init(jax.random.key(0), batches[0], 0.25)
  assert set(variables) == {"masks"}
  begun = variables
  for batch in batches:
    _, variables = layer.apply(variables, batch, 0.25, mutable=["masks"])
  changed = jax.tree.map(
    lambda a, b: bool(jnp.any(a != b)), begun, dict(variables)
  )
  assert all(jax.tree.leaves(changed))
  # At rest an example does not depend on those beside it.
  whole = layer.apply(variables, batches[0], 0.25)
  alone = layer.apply(variables, batches[0][:1], 0.25)
  np.testing.assert_array_equal(whole[:1], alone)
  # And the budget is met at ratios that were not trained.
  for r in (0.1, 0.25, 0.5):
    y = layer.apply(variables, jnp.concatenate(batches), r)
    assert float(jnp.mean(y != 0)) == pytest.approx(
      int(16 * r) / 16 if mask.startswith("kw") else r, abs=0.02
    )


@pytest.mark.parametrize("mask", LEARNS)
def test_nnx_learns_the_same(mask):
  linen = sr.SparseActivation("relu", "channel", mask=mask)
  layer = sr.nnx.SparseActivation(
    "relu", scope="channel", mask=mask, channels=16
  )
  x = jnp.asarray(RNG.normal(size=(32, 16)), jnp.float32)
  variables = linen.init(jax.random.key(0), x, 0.25)
  y, variables = linen.apply(variables, x, 0.25, mutable=["masks"])
  np.testing.assert_array_equal(layer(x, 0.25), y)
  np.testing.assert_array_equal(
    jax.tree.leaves(nnx.state(layer, sr.nnx.sparse_activation.Masks))[0],
    jax.tree.leaves(variables)[0],
  )
  layer.set_attributes(deterministic=True)
  np.testing.assert_array_equal(
    layer(x[:3], 0.25), linen.apply(variables, x[:3], 0.25)
  )


def test_boosting_evens_out_how_often_units_are_active():
  """Of 32 units of which a few are always larger."""
  lead = jnp.linspace(0, 2, 32)

  def entropy(strength):
    layer = sr.SparseActivation(
      "identity", "channel", mask=f"kwinners:{strength}"
    )
    x = jnp.ones((16, 32))
    variables = layer.init(jax.random.key(0), x, 0.125)

    def step(variables, key):
      x = jax.random.normal(key, (16, 32)) * 0.3 + lead[None] + 1
      _, new = layer.apply(variables, x, 0.125, mutable=["masks"])
      return dict(new), None

    keys = jax.random.split(jax.random.key(1), 3000)
    variables, _ = jax.lax.scan(step, dict(variables), keys)
    return float(boosting.duty_entropy(variables["masks"]["state"]))

  plain, boosted_entropy = entropy(0.0), entropy(3.0)
  assert boosted_entropy > plain + 0.5
  assert boosted_entropy <= 5


def test_experts_are_balanced_and_computing_in_groups_changes_nothing():
  rng = np.random.default_rng(3)
  centres = rng.normal(size=(4, 12))
  labels = rng.permutation(np.repeat(np.arange(4), 8))
  w_in = (centres[labels] + 0.05 * rng.normal(size=(32, 12))).T
  w_out = rng.normal(size=(32, 5))
  found = experts.make_experts(w_in, 4)
  # The groups that were hidden in it are found.
  parts = labels[found.order].reshape(4, 8)
  assert all(len(set(part)) == 1 for part in parts)
  assert sorted(found.order) == list(range(32))
  x = jnp.asarray(rng.normal(size=(6, 12)), jnp.float32)
  bias = jnp.asarray(rng.normal(size=32), jnp.float32)
  w_in, w_out = (jnp.asarray(w, jnp.float32) for w in (w_in, w_out))
  new_in, new_bias, new_out = experts.reordered(w_in, bias, w_out, found.order)
  dense = jax.nn.relu(x @ w_in + bias[None]) @ w_out
  grouped = jax.nn.relu(x @ new_in + new_bias[None]) @ new_out
  np.testing.assert_allclose(dense, grouped, rtol=1e-4, atol=1e-5)
  back = np.argsort(found.order)
  np.testing.assert_array_equal(new_in[:, back], w_in)
  # A router sends what looks like a group to that group.
  like = jnp.asarray([centres[part[0]] for part in parts], jnp.float32)
  mask = experts.expert_mask(like @ found.router, 0.25, 8)
  np.testing.assert_array_equal(mask.reshape(4, 4, 8)[:, :, 0], np.eye(4) > 0)


def test_the_expert_mask_keeps_the_groups_that_hold_most():
  x = jnp.asarray(np.abs(X), jnp.float32)
  y = np.asarray(sr.sparse_activation(x, 0.5, mask="expert:4", scope="channel"))
  held = np.abs(X).reshape(6, 5, 4, 4).sum(axis=-1)
  best = np.sort(np.argsort(-held, axis=-1)[..., :2], axis=-1)
  kept = (y.reshape(6, 5, 4, 4) != 0).all(axis=-1)
  np.testing.assert_array_equal(np.nonzero(kept)[2].reshape(6, 5, 2), best)


def test_squared_relu_and_a_gate_of_two_relus():
  x = jnp.asarray(X)
  np.testing.assert_allclose(
    get_activation("squared_relu")(x), np.maximum(X, 0) ** 2, rtol=1e-6
  )
  with pytest.raises(ValueError, match="drelu needs gated"):
    sr.models.Transformer(activation="drelu")
  with pytest.raises(ValueError, match="activation must be one of"):
    sr.SparseActivation("drelu")
  model = sr.models.Transformer(
    depth=1, width=16, heads=2, gated=True, activation="drelu", context=8
  )
  tokens = jnp.arange(8)[None]
  variables = model.init(jax.random.key(0), tokens, 1.0)
  _, stats = model.apply(variables, tokens, 1.0)
  # Two ReLUs, of which both must fire.
  assert 0.1 < float(stats[0]) < 0.4


@pytest.mark.parametrize("mask", ["nm:4", "threshold", "kwinners:1"])
@pytest.mark.parametrize("network", ["mlp", "wrn", "vit", "lm"])
def test_networks_take_any_mask(network, mask):
  fields = {"mask": mask, "gradient": "straight_through"}
  images = jnp.asarray(RNG.normal(size=(4, 8, 8, 3)), jnp.float32)
  batch = {"images": images, "labels": jnp.arange(4)}
  inputs = "images"
  if network == "mlp":
    model = sr.models.ResidualMLP(width=16, depth=1, **fields)
  elif network == "wrn":
    model = sr.WideResNet(depth=10, widen=1, **fields)
  elif network == "vit":
    model = sr.models.VisionTransformer(
      depth=1, width=16, heads=2, patch=4, **fields
    )
  else:
    model = sr.models.Transformer(
      depth=1, width=16, heads=2, context=8, token_groups=4, **fields
    )
    tokens = jnp.arange(32).reshape(4, 8)
    inputs, batch = "tokens", {"tokens": tokens, "labels": tokens}
  import optax

  tx, controller = optax.sgd(0.1), sr.controllers.constant(0.5)
  state = sr.TrainState.create(
    model.init(jax.random.key(0), batch[inputs], 1.0),
    tx=tx,
    controller=controller,
    rng=jax.random.key(1),
  )
  step = sr.make_train_step(
    model.apply, tx, controller, inputs=inputs, donate_state=False
  )
  new, metrics = step(state, batch)
  assert float(metrics["skipped"]) == 0
  if mask != "nm:4":
    before, after = (
      jax.tree.leaves(s.model_state["masks"]) for s in (state, new)
    )
    assert any(
      bool(jnp.any(a != b)) for a, b in zip(before, after, strict=True)
    )
  with jax.numpy_dtype_promotion("standard"):
    logits, _ = model.apply(new.variables, batch[inputs], 0.25)
  assert jnp.all(jnp.isfinite(logits))
