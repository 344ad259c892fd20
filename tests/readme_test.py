"""What the README says runs, and its numbers are those of result files."""

import json
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "experiments" / "results"
RESULTS_PAGE = (ROOT / "docs" / "results.md").read_text()


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
  shlex.split(line, comments=True)[1:]
  for line in README.splitlines()
  if line.startswith("sparse-regimes ")
]


@pytest.mark.slow
@pytest.mark.parametrize("network", [1, 2], ids=["linen", "nnx"])
def test_the_recipe_for_other_projects_runs(network, capsys):
  names: dict = {}
  # The tests promote dtypes strictly; optax.adam does not.
  with jax.numpy_dtype_promotion("standard"):
    for number in (0, network, 3):
      exec(compile(BLOCKS[number], "README.md", "exec"), names)
  assert names["metrics"]["loss"] < 1.0
  assert names["state"].controller_state.keep_ratio < 1.0
  assert capsys.readouterr().out


def test_a_recipe_is_short():
  assert len(BLOCKS) == 4
  for code in BLOCKS:
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


NETWORK = """
import jax.numpy as jnp
from flax import linen as nn

import sparse_regimes as sr


class MyNetwork(nn.Module):
  num_classes: int = 10

  @nn.compact
  def __call__(self, x, keep_ratio, train=False):
    x = nn.Dense(16)(x.reshape(len(x), -1))
    x = sr.sparse_activation(x, keep_ratio)
    return nn.Dense(self.num_classes)(x), jnp.mean(x != 0)[None]
"""
# Of every run: the tests promote strictly and have eight devices.
SMALL = (
  *("--config.train.epochs=1", "--config.train.num_devices=1"),
  "--config.train.batch_size=8",
)
SMALL_BY_CONFIG = {
  "quickstart": (
    *("--config.data.num_train=16", "--config.data.num_test=16"),
    "--config.eval.num_train=16",
  ),
  "lm_quickstart": (
    *("--config.data.num_train=16", "--config.eval.num_train=16"),
    *("--config.task.context=8", "--config.model.width=16"),
    "--config.model.depth=1",
  ),
  "ppo_cartpole_strategy1": (
    *("--config.task.iterations=2", "--config.task.num_steps=16"),
    "--config.task.episodes=8",
  ),
}


@pytest.mark.run
def test_the_commands_of_the_recipes_run(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)
  labels = np.arange(16) % 10
  np.savez(
    "my_images.npz",
    train_images=images,
    train_labels=labels,
    test_images=images,
    test_labels=labels,
  )
  (tmp_path / "my_texts").mkdir()
  text = "To be, or not to be, that is the question.\n" * 20
  (tmp_path / "my_texts" / "a.txt").write_text(text)
  (tmp_path / "my_file.py").write_text(NETWORK)
  assert [command[0] for command in COMMANDS].count("train") == 6
  for number, command in enumerate(COMMANDS):
    if command[0] == "doctor":
      continue
    small: tuple = ()
    if command[0] == "train":
      (config,) = re.findall(r"--config=(\w+)", " ".join(command))
      small = SMALL + SMALL_BY_CONFIG[config]
      if not any(word.startswith("--workdir") for word in command):
        small += (f"--workdir=runs/{number}",)
    with jax.numpy_dtype_promotion("standard"):
      assert main([*command, *small]) == 0, capsys.readouterr().err
  assert (tmp_path / "runs" / "first" / "sweep.json").exists()


def test_the_example_of_the_projections_runs():
  page = (ROOT / "docs" / "flat_minima.md").read_text()
  (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  names: dict = {}
  exec(compile(code, "flat_minima.md", "exec"), names)
  params = names["params"]
  grads = jax.tree.map(jnp.ones_like, params)
  with jax.numpy_dtype_promotion("standard"):
    updates, _ = names["tx"].update(grads, names["state"], params)
  assert jnp.all(params["norm"]["scale"] + updates["norm"]["scale"] >= 1)


def test_every_config_named_exists():
  for name in re.findall(r"configs/\w+\.py", README):
    assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["quickstart", "wrn10_cpu"])
def test_the_results_table_is_that_of_the_result_files(name):
  summary = json.loads((RESULTS / name / "summary.json").read_text())
  (row,) = (line for line in RESULTS_PAGE.splitlines() if f"| `{name}`" in line)
  for key in ("final_test_dense_accuracy", "final_test_sparse_accuracy"):
    assert f"{summary[key]:.4f}" in row, key
  lines = (RESULTS / name / "metrics.jsonl").read_text().splitlines()
  last = json.loads(lines[-1])
  assert last["test_dense_accuracy"] == summary["final_test_dense_accuracy"]
  assert last["epoch"] == summary["epochs"]
