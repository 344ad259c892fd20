"""The projects below ``examples/``, and the page that shows them."""

import difflib
import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparse_regimes as sr

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "your_project.md").read_text()
# The sparse autoencoder is nothing without a budget; it has its own tests.
NAMES = sorted(
  {path.stem for path in EXAMPLES.glob("*.py")} - {"sparse_autoencoder"}
)
# What each run is asked for, and what it must have learned.
UPDATES = {
  "image_classifier": 8,
  "language_model": 12,
  "nnx_classifier": 30,
  "ppo": 3,
  "vae": 8,
}


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def difference(name):
  """Lines that were removed and added, without their places."""
  without, with_us = (
    path.read_text().splitlines()
    for path in (EXAMPLES / "without" / f"{name}.py", EXAMPLES / f"{name}.py")
  )
  lines = list(difflib.unified_diff(without, with_us, n=0, lineterm=""))[2:]
  return ["" if line.startswith("@@") else line for line in lines]


def test_there_are_five():
  assert set(NAMES) == set(UPDATES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_as_it_does_without_us(name):
  """While the budget is 1 the losses are those of the other version."""
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    state, metrics = load(EXAMPLES / f"{name}.py").main(UPDATES[name])
    _, expected = load(EXAMPLES / "without" / f"{name}.py").main(UPDATES[name])
  assert isinstance(state, sr.TrainState)
  assert np.all(metrics["skipped"] == 0)
  if name in ("nnx_classifier", "vae"):  # dropout, and noise, of other keys
    for value in (metrics, expected):
      assert value["loss"] < {"nnx_classifier": 1.0, "vae": 100}[name]
    return
  for value in expected:
    np.testing.assert_allclose(
      metrics[value], expected[value], rtol=2e-3, err_msg=value
    )


@pytest.mark.parametrize("name", NAMES)
def test_at_most_fifteen_lines_are_written_and_the_page_shows_them(name):
  lines = difference(name)
  written = [line for line in lines if line.startswith("+") and line != "+"]
  assert len(written) <= 15
  assert "\n".join(lines).strip("\n") in PAGE


def test_the_budget_moves_in_the_language_model():
  module = load(EXAMPLES / "language_model.py")
  assert module.controller.init().keep_ratio == 1
  low = module.controller.update(module.controller.init(), loss=1.0)
  for _ in range(127):
    low = module.controller.update(low, loss=1.0)
  assert low.keep_ratio < 1


@pytest.mark.slow
def test_the_language_model_does_not_see_the_future():
  """And would, if all positions shared a budget."""
  module = load(EXAMPLES / "language_model.py")
  tokens = jax.random.randint(jax.random.key(0), (2, 12), 1, 128)

  def change_of_earlier_logits():
    variables = module.model.init(jax.random.key(1), tokens, 1.0)
    logits, others = (
      module.model.apply(variables, x, 0.1)[:, :-1]
      for x in (tokens, tokens.at[:, -1].add(1))
    )
    return jnp.max(jnp.abs(logits - others))

  class Leaky:
    @staticmethod
    def sparse_activation(x, keep_ratio, axis):
      return sr.sparse_activation(x, keep_ratio)

  with jax.numpy_rank_promotion("allow"):
    assert change_of_earlier_logits() == 0
    module.sr = Leaky
    assert change_of_earlier_logits() > 0


@pytest.mark.slow
def test_every_recipe_of_the_page_runs():
  blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
  assert len(blocks) == 10
  names: dict = {}
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    for block in blocks:
      exec(compile(block, "your_project.md", "exec"), names)
      metrics = names["metrics"]
      assert np.all(metrics["skipped"] == 0), block
      assert np.all(np.isfinite(metrics["loss"])), block
    # Each does what it says.
    shared = (names["params"], {})
    arguments = {"keep_ratio": 0.3, "rng": None}
    half, plain = (
      names[name](*shared, names["batch"], **arguments)[0]
      for name in ("scaled_loss_fn", "loss_fn")
    )
    kept = {name: value[:48] for name, value in names["weighted"].items()}
    weighted, whole = (
      names["weighted_loss_fn"](*shared, batch, **arguments)[0]
      for batch in (names["weighted"], kept)
    )
  np.testing.assert_allclose(half, names["SCALE"] * plain, rtol=2e-2)
  np.testing.assert_allclose(weighted, whole, rtol=1e-5)
  assert names["states"].params["a"].shape == (3, 8, 64)
  assert jnp.any(names["averaged"]["a"] != names["params"]["a"])
