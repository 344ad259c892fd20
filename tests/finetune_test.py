"""From a trained network to a sparse one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes.main import main
from sparse_regimes.past_run import adopt

SMALL = (
  "--config.data.name=cifar10_mini",
  "--config.train.epochs=1",
  "--config.train.batch_size=256",
  "--config.eval.batch_size=256",
  "--config.model.depth=2",
  "--config.model.width=16",
  "--config.model.heads=2",
)


@pytest.fixture(scope="module")
def vanilla(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("runs") / "vanilla"
  with jax.numpy_dtype_promotion("standard"):
    assert run("vit_vanilla", workdir) == 0
  return workdir


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


def test_a_finetuned_run_begins_where_the_other_ended(
  vanilla, tmp_path, capsys
):
  workdir = tmp_path / "sparse"
  assert finetune(workdir, vanilla, "--config.optimizer.learning_rate=0.0") == 0
  out = capsys.readouterr().out
  assert f"start from  {vanilla}, epoch 1; new: block0_mlp/bias/zeroth" in out
  assert (workdir / "report.html").exists()
  # It goes on by itself, whatever becomes of the other run.
  assert finetune(workdir, vanilla, "--config.train.epochs=2") == 2
  again = finetune(
    workdir,
    vanilla,
    "--config.optimizer.learning_rate=0.0",
    "--config.train.epochs=2",
  )
  assert again == 0
  assert "start from" not in capsys.readouterr().out


@pytest.mark.parametrize(
  ("start", "arguments", "message"),
  [
    ("nothing", [], "train.start_from must hold a run, got nothing"),
    (None, ["--config.model.width=32"], "must have the shape"),
    (None, ["--config=mlp_sparse"], "is not a field of the residual_mlp"),
  ],
)
def test_what_cannot_be_started_from(
  vanilla, tmp_path, capsys, start, arguments, message
):
  assert finetune(tmp_path / "run", start or vanilla, *arguments) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line


def test_adopting_names_what_is_new():
  params = {"a": {"w": jnp.zeros(2)}, "b": jnp.ones(1)}
  adopted, new = adopt(params, {"a": {"w": jnp.ones(2)}, "old": jnp.ones(3)})
  np.testing.assert_array_equal(adopted["a"]["w"], [1, 1])
  assert new == ["b"]
  with pytest.raises(ValueError, match="none of this network"):
    adopt(params, {"c": jnp.ones(1)})
