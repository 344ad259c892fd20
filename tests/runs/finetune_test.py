"""From a trained network to a sparse one."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import apply, init

from sparse_regimes.errors import InputError
from sparse_regimes.main import main
from sparse_regimes.models.residual_mlp import ResidualMLP
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.start_from import adopt

SMALL = (
  "--config.data.name=cifar10_mini",
  "--config.train.epochs=1",
  "--config.train.batch_size=256",
  "--config.eval.batch_size=256",
  "--config.model.depth=2",
  "--config.model.width=16",
  "--config.model.heads=2",
  "--config.model.patch=8",
  "--config.train.num_devices=1",
  "--config.eval.num_train=256",
)


@pytest.fixture(scope="module")
def vanilla(once):
  return once("vanilla", train_vanilla)


def train_vanilla(workdir):
  assert run("vit_vanilla", workdir) == 0


def run(config, workdir, *arguments):
  with jax.numpy_dtype_promotion("standard"):
    return main(
      [f"--config={config}", f"--workdir={workdir}", *SMALL, *arguments]
    )


def finetune(workdir, start, *arguments):
  return run(
    "vit_sparse_finetune",
    workdir,
    f"--config.train.start_from={start}",
    "--config.model.mix_steps=10",
    "--config.optimizer.uplift_steps=10",
    *arguments,
  )


def accuracies(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line)["test_dense_accuracy"] for line in lines]


@pytest.mark.run
def test_a_finetuned_run_begins_where_the_other_ended(
  vanilla, tmp_path, capsys
):
  workdir, past = tmp_path / "sparse", tmp_path / "past"
  shutil.copytree(vanilla, past)
  # So slowly that nothing has changed after an epoch.
  slowly = (
    "--config.optimizer.learning_rate=0.0",
    "--config.model.mix_steps=100000000",
    "--config.optimizer.uplift_steps=100000000",
  )
  assert finetune(workdir, past, *slowly) == 0
  out = capsys.readouterr().out
  assert f"start from  {past}, epoch 1; new: block0_mlp/bias/zeroth" in out
  assert "left out: nothing" in out
  assert accuracies(workdir) == accuracies(vanilla)
  assert (workdir / "report.html").exists()
  # It goes on by itself, whatever becomes of the other run.
  shutil.rmtree(past)
  assert finetune(workdir, past, *slowly, "--config.train.epochs=2") == 0
  assert "start from" not in capsys.readouterr().out
  assert len(accuracies(workdir)) == 2


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["train.start_from="], "train.start_from must be the folder of the run"),
    (["optimizer.uplift_steps=0"], "optimizer.uplift_steps must be at least 1"),
    (["model.norm=ln"], "must be 0 unless model.norm is restricted_finetune"),
  ],
)
def test_half_a_finetuning_is_refused(arguments, message):
  with pytest.raises(InputError, match=message):
    configs.load("vit_sparse_finetune", ["train.start_from=a", *arguments])


@pytest.mark.slow
def test_a_finetuned_norm_keeps_its_bias_and_signs():
  """Through the optimizer that the config makes, weight decay included."""
  config = configs.load(
    "vit_sparse_finetune",
    [
      *("train.start_from=a", "model.depth=1", "model.width=8"),
      *("model.heads=2", "model.patch=8", "optimizer.weight_decay=0.5"),
      *("optimizer.learning_rate=0.1", "optimizer.uplift_steps=4"),
    ],
  )
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=1)
  with jax.numpy_dtype_promotion("standard"):
    state = factory.make_state(config, parts, (16, 16, 3))
    params = jax.tree.map(jnp.array, state.params)
    norm = params["block0_mlp"]["norm"]
    norm["scale"] = jnp.array([-0.5, 0.5, -2.0, 2.0, 0.0, 1.0, -1.0, 0.1])
    norm["bias"] = jnp.arange(8.0)
    before = dict(norm)
    opt_state = parts.tx.init(params)
    grads = jax.tree.map(jnp.zeros_like, params)
    for _ in range(4):
      updates, opt_state = parts.tx.update(grads, opt_state, params)
      params = optax.apply_updates(params, updates)
  after = params["block0_mlp"]["norm"]
  np.testing.assert_array_equal(after["bias"], before["bias"])
  assert (np.abs(after["scale"]) >= 1).all()
  signs = np.where(np.asarray(before["scale"]) < 0, -1, 1)
  np.testing.assert_array_equal(np.sign(after["scale"]), signs)


@pytest.mark.slow
def test_the_activation_is_mixed_by_training_steps():
  model = ResidualMLP(width=8, depth=1, activation="jsrelu", mix_steps=2)
  images = jax.random.normal(jax.random.key(0), (4, 2, 2, 3))
  variables = init(model, images)

  def logits(activation):
    other = ResidualMLP(width=8, depth=1, activation=activation)
    return apply(other, {"params": variables["params"]}, images)[0]

  def mixed(statistics):
    return apply(model, variables | {"batch_stats": statistics}, images)[0]

  statistics = variables["batch_stats"]
  np.testing.assert_allclose(mixed(statistics), logits("relu"))
  for _ in range(3):
    # Evaluation does not count.
    mixed(statistics)
    _, changed = model.apply(
      {"params": variables["params"], "batch_stats": statistics},
      images,
      1.0,
      train=True,
      mutable=["batch_stats"],
    )
    statistics = changed["batch_stats"]
  np.testing.assert_allclose(mixed(statistics), logits("jsrelu"), rtol=1e-5)
  assert [int(s) for s in jax.tree.leaves(statistics)] == [3]


@pytest.mark.parametrize(
  ("start", "arguments", "message"),
  [
    ("nothing", [], "train.start_from must hold a run, got nothing"),
    (None, ["--config.model.width=32"], "must have the shape"),
    (None, ["--config=mlp_sparse"], "is not a field of the residual_mlp"),
    (None, ["--config.model.depth=3"], "that one lacks block2_attention/key"),
    (None, ["--config.model.depth=1"], "that one has block1_attention/key"),
    (None, ["--config.model.patch=5"], "model.patch must divide images of 32"),
  ],
)
@pytest.mark.run
def test_what_cannot_be_started_from(
  vanilla, tmp_path, capsys, start, arguments, message
):
  assert finetune(tmp_path / "run", start or vanilla, *arguments) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line
  # A folder that is refused is not taken.
  assert not (tmp_path / "run").exists()


def test_a_mix_begins_with_relu():
  config = configs.load(
    "vit_sparse_finetune", ["train.start_from=runs/vanilla"]
  )
  factory.check_parent(config, configs.load("vit_vanilla"))
  parent = configs.load("vit_vanilla", ["model.activation=gelu"])
  with pytest.raises(InputError, match=r"ReLU where .* runs/vanilla with gelu"):
    factory.check_parent(config, parent)


def test_adopting_names_what_is_new():
  params = {"a": {"w": jnp.zeros(2)}, "b": jnp.ones(1)}
  past = {"a": {"w": jnp.ones(2)}, "old": jnp.ones(3)}
  adopted, new, left = adopt(params, past)
  np.testing.assert_array_equal(adopted["a"]["w"], [1, 1])
  assert new == ["b"]
  assert left == ["old"]
  with pytest.raises(ValueError, match=r"a/w must have the shape \(2,\)"):
    adopt(params, {"a": {"w": jnp.ones(3)}})
