"""``examples/sparse_autoencoder.py``, against a step in NumPy."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from running import TINY_TEXT, run

import sparse_regimes as sr

PATH = Path(__file__).parent.parent / "examples" / "sparse_autoencoder.py"
SELECTIONS = ("token", "batch")
D, LATENTS, TOKENS, K, DEAD_AFTER, RATE = 4, 8, 6, 2, 10, 0.05


@pytest.fixture(scope="module")
def sae():
  spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="module")
def x():
  return np.random.default_rng(0).normal(size=(TOKENS, D)).astype(np.float32)


def state_of(sae, x, tx, controller):
  """Before a step: three latents dead, and a mean that has begun."""
  variables = sae.init(jax.random.key(0), x, LATENTS)
  rng = np.random.default_rng(1)
  # No longer as it began, so that each parameter has a gradient of its own.
  for name in ("encoder", "encoder_bias", "decoder_bias"):
    noise = 0.3 * rng.normal(size=variables["params"][name].shape)
    variables["params"][name] += noise.astype(np.float32)
  variables["latents"] = {
    "unused": jnp.array([0, 12, 0, 9, 30, 10, 0, 0], jnp.int32),
    "threshold": jnp.float32(0.4),
  }
  return sr.TrainState.create(
    variables, tx=tx, controller=controller, rng=jax.random.key(2)
  )


def largest(values, number):
  """The values, but for those that are not among so many largest."""
  kept = np.zeros(values.size)
  order = np.argsort(-values.ravel(), kind="stable")[:number]
  kept[order] = values.ravel()[order]
  return kept.reshape(values.shape)


def by_token(values, number):
  return np.stack([largest(row, number) for row in values])


def latents_in_numpy(p, x, selection):
  pre = (x - p["decoder_bias"]) @ p["encoder"] + p["encoder_bias"]
  dense = np.maximum(pre, 0)
  if selection == "token":
    return dense, by_token(dense, K)
  return dense, largest(dense, K * len(x))


def loss_in_numpy(p, x, dead, selection, residual=None):
  """The loss; ``residual`` is the constant that dead latents predict."""
  dense, kept = latents_in_numpy(p, x, selection)
  variance = np.sum((x - x.mean(axis=0)) ** 2)
  own = x - (kept @ p["decoder"] + p["decoder_bias"])
  residual = own if residual is None else residual
  num_aux = D // 2
  aux = by_token(dense * dead, num_aux) @ p["decoder"]
  scale = min(dead.sum() / num_aux, 1)
  aux_loss = scale * np.sum((residual - aux) ** 2) / variance
  return np.sum(own**2) / variance + aux_loss / 32, own


def differences(function, p):
  """Its gradient, by central differences in float64."""
  gradient = {name: np.zeros_like(value) for name, value in p.items()}
  for name, value in p.items():
    for index in np.ndindex(value.shape):
      ends = []
      for step in (1e-6, -1e-6):
        moved = value.copy()
        moved[index] += step
        ends.append(function({**p, name: moved}))
      gradient[name][index] = (ends[0] - ends[1]) / 2e-6
  return gradient


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_step_is_that_of_numpy(sae, x, selection):
  tx = sae.unit_rows(optax.sgd(RATE))
  controller = sr.controllers.constant(sae.ratio_of(K, LATENTS))
  state = state_of(sae, x, tx, controller)
  before = jax.tree.map(np.array, (state.params, state.model_state["latents"]))
  step = sr.make_step(sae.make_loss(selection, DEAD_AFTER), tx, controller)
  state, metrics = step(state, x)

  p = {name: np.float64(value) for name, value in before[0].items()}
  x = np.float64(x)
  dead = before[1]["unused"] >= DEAD_AFTER
  assert dead.sum() == 3
  loss, residual = loss_in_numpy(p, x, dead, selection)
  gradient = differences(
    lambda p: loss_in_numpy(p, x, dead, selection, residual)[0], p
  )
  rows = p["decoder"]
  along = np.sum(gradient["decoder"] * rows, axis=1, keepdims=True)
  gradient["decoder"] -= along * rows
  new = {name: p[name] - RATE * gradient[name] for name in p}
  new["decoder"] /= np.linalg.norm(new["decoder"], axis=1, keepdims=True)
  for name, value in new.items():
    assert np.abs(value - p[name]).max() > 1e-4  # it moved
    np.testing.assert_allclose(
      state.params[name], value, rtol=1e-5, atol=2e-6, err_msg=name
    )

  _, kept = latents_in_numpy(p, x, selection)
  active = (kept > 0).any(axis=0)
  latents = state.model_state["latents"]
  np.testing.assert_array_equal(
    latents["unused"], np.where(active, 0, before[1]["unused"] + TOKENS)
  )
  np.testing.assert_allclose(
    latents["threshold"], 0.99 * 0.4 + 0.01 * kept[kept > 0].min(), rtol=1e-6
  )
  variance = np.sum((x - x.mean(axis=0)) ** 2)
  np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
  np.testing.assert_allclose(
    metrics["fvu"], np.sum(residual**2) / variance, rtol=1e-5
  )
  assert metrics["dead"] == 3 / LATENTS
  assert metrics["skipped"] == 0


def test_the_dead_alone_learn_from_what_is_left(sae, x):
  tx, controller = optax.sgd(RATE), sr.controllers.constant(0.25)
  state = state_of(sae, x, tx, controller)

  def gradient(dead_after):
    loss_fn = sae.make_loss("token", dead_after)
    return jax.grad(
      lambda p: loss_fn(
        p, state.model_state, jnp.asarray(x), keep_ratio=0.25, rng=None
      )[0]
    )(state.params)

  added = jax.tree.map(lambda a, b: a - b, gradient(DEAD_AFTER), gradient(99))
  moved = jnp.any(jnp.abs(added["decoder"]) > 1e-7, axis=1)
  dead = state.model_state["latents"]["unused"] >= DEAD_AFTER
  assert jnp.any(moved)
  assert not jnp.any(moved & ~dead)


def test_the_mean_of_thresholds_begins_with_the_first(sae, x):
  variables = sae.init(jax.random.key(0), x, LATENTS)
  _, aux = sae.make_loss("batch")(
    variables["params"],
    {"latents": variables["latents"]},
    jnp.asarray(x),
    **{"keep_ratio": jnp.float32(0.25), "rng": None},
  )
  p = {name: np.float64(v) for name, v in variables["params"].items()}
  kept = latents_in_numpy(p, np.float64(x), "batch")[1]
  np.testing.assert_allclose(
    aux["model_state"]["latents"]["threshold"], kept[kept > 0].min(), rtol=1e-5
  )


@pytest.mark.parametrize(("k", "num_latents"), [(8, 512), (57, 100), (3, 37)])
def test_of_a_batch_k_times_its_size_are_kept(sae, k, num_latents):
  pre = jax.random.uniform(jax.random.key(k), (64, num_latents), minval=0.1)
  ratio = sae.ratio_of(k, num_latents)
  kept = sr.sparse_activation(pre, ratio, axis=sae.AXES["batch"])
  assert jnp.sum(kept > 0) == k * 64
  each = jnp.sum(kept > 0, axis=1)
  assert jnp.any(each != k)  # that is the point of it
  kept = sr.sparse_activation(pre, ratio, axis=sae.AXES["token"])
  assert jnp.all(jnp.sum(kept > 0, axis=1) == k)


def test_in_use_no_token_depends_on_its_batch(sae):
  pre = jax.random.normal(jax.random.key(0), (32, 64))
  whole = sae.above_threshold(pre, 1.5)
  parts = [sae.above_threshold(row[None], 1.5) for row in pre]
  np.testing.assert_array_equal(whole, jnp.concatenate(parts))
  assert 0 < jnp.sum(whole > 0) < whole.size
  # The rule of training does.
  ratio = sae.ratio_of(4, 64)
  whole = sr.sparse_activation(pre, ratio, axis=(0, 1))[:16]
  half = sr.sparse_activation(pre[:16], ratio, axis=(0, 1))
  assert jnp.any(whole != half)


def test_the_decoder_begins_as_the_encoder_transposed(sae, x):
  params = sae.init(jax.random.key(0), x, LATENTS)["params"]
  np.testing.assert_array_equal(params["encoder"], params["decoder"].T)
  norms = jnp.linalg.norm(params["decoder"], axis=1)
  np.testing.assert_allclose(norms, np.ones(LATENTS), rtol=1e-6)


def test_pca_and_pursuit_explain_what_they_can(sae):
  rng = np.random.default_rng(0)
  rows = np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)
  x = (rng.normal(size=(64, 3)) @ rows[:3]).astype(np.float32) + 1
  assert sae.pca_fvu(x, x, 3) < 1e-5
  assert 0.01 < sae.pca_fvu(x, x, 2) < 1
  mean = np.ones(8, np.float32)
  assert sae.pursuit_fvu(jnp.asarray(rows), mean, x, 3) < 1e-5
  assert 0.01 < sae.pursuit_fvu(jnp.asarray(rows), mean, x, 2) < 1


@pytest.fixture
def _optax_counts_in_integers():
  """Adam takes powers of them; the steps above are strict."""
  with jax.numpy_dtype_promotion("standard"):
    yield


TINY = ("--latents=64", "--k=4", "--steps=40", "--batch=64", "--tokens=1024")


@pytest.mark.slow
@pytest.mark.usefixtures("_optax_counts_in_integers")
@pytest.mark.parametrize("selection", SELECTIONS)
def test_the_example_trains(sae, selection):
  lines = []
  state, history, result = sae.main(
    [*TINY, "--network_steps=3", f"--selection={selection}"], lines.append
  )
  assert history[-1]["fvu"] < 0.5 * history[0]["fvu"]
  assert history[0]["keep_ratio"] == 0.5
  assert history[-1]["keep_ratio"] == 4 / 64
  assert all(row["skipped"] == 0 for row in history)
  assert result[selection] < 1
  norms = jnp.linalg.norm(state.params["decoder"], axis=1)
  np.testing.assert_allclose(norms, np.ones(64), rtol=1e-5)
  assert ("threshold" in result) == (selection == "batch")
  assert any("keep ratio" in line for line in lines)


@pytest.mark.run
@pytest.mark.usefixtures("_optax_counts_in_integers")
def test_it_looks_into_a_run(sae, tmp_path):
  run(tmp_path / "run", f"--config={TINY_TEXT}")
  for site, width in (("block1", 16), ("block0/mlp", 64)):
    lines = []
    _, history, _ = sae.main(
      [*TINY, f"--workdir={tmp_path / 'run'}", f"--site={site}"], lines.append
    )
    assert any(f"of {width}" in line for line in lines)
    assert history[-1]["fvu"] < history[0]["fvu"]
  with pytest.raises(SystemExit, match=r"--site must be one of .*block1/mlp"):
    sae.main([*TINY, f"--workdir={tmp_path / 'run'}", "--site=block9"])


def test_help_says_what_it_does(sae, capsys):
  with pytest.raises(SystemExit):
    sae.main(["--help"])
  shown = capsys.readouterr().out
  assert "BatchTopK" in shown
  assert "--workdir" in shown
