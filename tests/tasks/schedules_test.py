"""Runs of a language model under every schedule that ships a config."""

import json

import jax
import numpy as np
import pytest
from running import ROOT, TINY_TEXT, records_of

from sparse_regimes.main import main
from sparse_regimes.runs import config as configs

TINY = (
  *("task.context=8", "model.depth=2", "model.width=16", "model.heads=2"),
  *("train.epochs=1", "train.batch_size=8", "train.num_devices=1"),
  *("data.num_train=32", "eval.num_train=16", "eval.batch_size=16"),
  *(f"data.name=text:{ROOT / 'LICENSE'}", "log.backends=", "log.page=False"),
)
# What lets them move within four steps.
FAST = {
  "lm_gentle": ["controller.decide_every=1"],
  "lm_adaptive": ["controller.decide_every=1", "controller.patience=1"],
  "lm_polynomial": ["controller.decide_every=1", "controller.end=3"],
  "lm_ssd": [
    *("controller.check_every=1", "controller.sparse_steps=1"),
    *("controller.total_steps=0", "controller.similarity=0.1"),
  ],
  "lm_dense_start": ["controller.decide_every=1", "budget.dense_start=2"],
  "lm_shared": ["controller.decide_every=1", "budget.share_every=1"],
}
# The mean budget that each step runs at.
EXPECTED = {
  "lm_gentle": [1, 0.9, 0.81, 0.729],
  "lm_adaptive": [1, 0.95, 0.9, 0.85],
  "lm_polynomial": [1, 0.25 + 0.75 * 8 / 27, 0.25 + 0.75 / 27, 0.25],
  "lm_ssd": [1, 1, 0.25, 1],
  "lm_dense_start": [1, 1, 1, 0.9],
  "lm_shared": [1, 0.9, 0.81, 0.729],
}


def run(workdir, config, *overrides):
  arguments = [f"--config={config}", f"--workdir={workdir}"]
  with jax.numpy_dtype_promotion("standard"):
    return main([*arguments, *(f"--config.{field}" for field in overrides)])


@pytest.mark.run
@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_a_few_steps_of_it(name, tmp_path):
  # A loss that does not bear on it.
  calm = ["controller.drop_tol=100"] * (name not in ("lm_polynomial", "lm_ssd"))
  assert run(tmp_path / "run", name, *TINY, *FAST[name], *calm) == 0
  (record,) = records_of(tmp_path / "run")
  assert record["step"] == 4
  assert np.isfinite(record["test_dense_loss"])
  trace = json.loads((tmp_path / "run" / "trace.json").read_text())["budget"]
  steps = []
  for step in (1, 2, 3, 4):
    at = np.searchsorted(trace["steps"], step, side="right") - 1
    steps.append(trace["keep_ratios"][at])
  np.testing.assert_allclose(steps, EXPECTED[name], rtol=1e-4)


@pytest.mark.parametrize(
  ("field", "message"),
  [
    ("budget.dense_start=-1", "budget.dense_start must be in"),
    ("budget.share_every=-1", "budget.share_every must be in"),
    ("budget.share_strength=2", "budget.share_strength must be in"),
    ("budget.share_least=-1", "budget.share_least must be in"),
    ("budget.share_weights=(1,0)", "budget.share_weights must be at least"),
    (
      "controller.keep_init=(0.5,0.1)",
      "budget.share_every must be 0 where the",
    ),
    ("optimizer.restart_at_resets=True", "budget.share_every must be 0 where"),
  ],
)
def test_mistakes_are_a_line(field, message, tmp_path, capsys):
  sharing = "budget.share_every=2"
  assert run(tmp_path / "run", TINY_TEXT, sharing, field) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line


@pytest.mark.run
def test_a_weight_for_each_site(tmp_path, capsys):
  fields = ("budget.share_every=2", "budget.share_weights=(1,2,3)")
  assert run(tmp_path / "run", TINY_TEXT, *fields) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "an entry for each of 2 sites, got shape (3,)" in line


def test_budgets_by_site_in_a_config():
  config = configs.load("lm_ssd", ["controller.keep_sparse=(0.5,0.25,0.2,0.1)"])
  assert config.controller.keep_sparse == (0.5, 0.25, 0.2, 0.1)
