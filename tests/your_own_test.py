"""A model, a controller and a data set of one's own, in a file outside."""

import json
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from running import ROOT, TINY_RUN, records_of, run, start

from sparse_regimes.data.dataset import check_dataset
from sparse_regimes.main import main
from sparse_regimes.references import resolve

CODE = '''
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import sparse_regimes as sr
from sparse_regimes.data import Dataset


class Net(nn.Module):
  num_classes: int = 10
  width: int = 16
  flat: bool = False

  @nn.compact
  def __call__(self, images, keep_ratio, train=False):
    x = nn.Dense(self.width)(images.reshape(len(images), -1))
    x = sr.SparseActivation()(x, keep_ratio)
    return nn.Dense(self.num_classes)(x), jnp.mean(x != 0)[None]


def halved(every: int = 5, lowest: float = 0.1):
  return sr.controllers.strategy1(
    decide_every=every, tighten_pct=0.5, keep_min=lowest
  )


def stripes():
  """Grey images: which half is brighter says the class."""
  images = np.random.default_rng(0).integers(0, 99, (640, 6, 8, 1), np.uint8)
  labels = np.arange(640) % 2
  images[np.arange(640) % 2 == 1, :3] += 100
  train, test = slice(512), slice(512, None)
  return Dataset(
    images[train], labels[train], images[test], labels[test], 2, "made"
  )
'''
FIELDS = (
  "--config.train.epochs=12",
  "--config.train.batch_size=32",
  "--config.eval.batch_size=64",
  "--config.model.width=24",
  "--config.controller.every=8",
)


def names(file):
  return (
    f"--config.model.name={file}:Net",
    f"--config.controller.name={file}:halved",
    f"--config.data.name={file}:stripes",
  )


@pytest.mark.run
def test_they_train_are_killed_go_on_are_swept_and_reported(tmp_path, capsys):
  file, folder = tmp_path / "mine.py", tmp_path / "run"
  file.write_text(CODE)
  arguments = (*names(file), *FIELDS)
  with start(folder, *arguments) as process:
    # A folder that is being written has a longer name.
    while not any(p.name.isdigit() for p in folder.glob("checkpoints/*")):
      assert process.poll() is None
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
  out = run(folder, *arguments)
  assert "resumed     after step" in out
  assert "512 train and 128 test images: made" in out
  *_, record = records_of(folder)
  assert record["test_dense_accuracy"] > 0.9
  # A decision at every eighth step, to the floor.
  assert record["keep_ratio"] == pytest.approx(0.1)
  # The copies are enough.
  assert (folder / "code" / "model" / "mine.py").read_text() == CODE
  file.unlink()
  assert main(["eval", f"--workdir={folder}", "--keep_ratios=1,0.1"]) == 0
  rows = json.loads((folder / "sweep.json").read_text())["rows"]
  assert rows[0]["accuracy"] == record["test_dense_accuracy"]
  assert main(["measure", f"--workdir={folder}", "--num_images=32"]) == 0
  assert main(["report", f"--workdir={folder}"]) == 0
  assert "mine.py:Net" in (folder / "report.html").read_text()
  # Nor does it go on as something else.
  file.write_text(CODE + "# another\n")
  capsys.readouterr()
  command = [f"--config={TINY_RUN}", f"--workdir={folder}", *arguments]
  assert main([*command, "--config.train.epochs=13"]) == 2
  assert "holds a run of another" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("model.name={folder}/none.py:Net", "model.name: there is no file"),
    ("model.name={file}:Nett", "has no 'Nett'; did you mean 'Net'?"),
    ("model.name={file}:CONSTANT", "CONSTANT must be a Linen module, got int"),
    ("model.name={file}:broken", "must be a Linen module, got function"),
    ("controller.name={file}:broken", "controller.name: {file}:broken must"),
    ("controller.name={file}:CONSTANT", "CONSTANT must be callable, got int"),
    ("model.name=no.such.package:Net", "could not be imported: ModuleNotFound"),
    ("model.name={folder}/bad.py:Net", "could not be imported: SyntaxError"),
    ("model.name={file}:Wants", "every argument of {file}:Wants must have"),
    ("data.name={file}:broken", "must give a Dataset, got NoneType"),
    ("task.loss=cross", "task.loss must be one of cross_entropy, FILE.py:f"),
    ("task.loss={file}:none", "task.loss: {file} has no 'none'"),
  ],
)
def test_what_is_none_is_a_line_and_leaves_nothing(
  tmp_path, capsys, override, message
):
  file = tmp_path / "mine.py"
  file.write_text(
    CODE
    + "CONSTANT = 3\ndef broken(): return None\n"
    + "class Wants(nn.Module):\n  width: int\n"
  )
  (tmp_path / "bad.py").write_text("x = ")
  where = {"file": file, "folder": tmp_path}
  code = main(
    [
      *(f"--config={TINY_RUN}", f"--workdir={tmp_path / 'run'}"),
      f"--config.{override.format(**where)}",
    ]
  )
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message.format(**where) in line
  assert not (tmp_path / "run").exists()


@pytest.mark.run
@pytest.mark.parametrize(
  ("change", "shape"),
  [
    (("images.reshape(len(images), -1)", "images"), "[1, 32, 32, 10]"),
    (("nn.Dense(self.num_classes)", "nn.Dense(3)"), "[1, 3]"),
  ],
)
def test_outputs_that_tell_no_classes_are_a_line(
  tmp_path, capsys, change, shape
):
  file = tmp_path / "mine.py"
  file.write_text(CODE.replace(*change))
  code = main(
    [
      *(f"--config={TINY_RUN}", f"--workdir={tmp_path / 'run'}"),
      f"--config.model.name={file}:Net",
    ]
  )
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert f"a number for each class, got {shape}" in line


@pytest.mark.run
def test_a_network_whose_mask_is_no_module_is_swept_by_what_it_reports(
  tmp_path, capsys
):
  file, folder = tmp_path / "mine.py", tmp_path / "run"
  file.write_text(
    CODE.replace("sr.SparseActivation()(x, ", "sr.sparse_activation(x, ")
  )
  arguments = (*names(file), *FIELDS, "--config.train.epochs=1")
  command = [f"--config={TINY_RUN}", f"--workdir={folder}", "--quiet"]
  assert main([*command, *arguments]) == 0
  assert capsys.readouterr().out == ""
  assert main(["eval", f"--workdir={folder}", "--keep_ratios=1,0.1"]) == 0
  (_, row) = json.loads((folder / "sweep.json").read_text())["rows"]
  assert row["nonzero"] <= 0.1
  assert row["site_threshold"] == [None]
  assert main(["measure", f"--workdir={folder}"]) == 2
  assert "model.name cannot be measured" in capsys.readouterr().err


@pytest.mark.run
def test_a_loss_an_optimizer_and_a_logger_are_kept_with_the_run(tmp_path):
  file, folder = tmp_path / "mine.py", tmp_path / "run"
  file.write_text(
    "import optax, jax.numpy as jnp\n"
    "from sparse_regimes.training.losses import cross_entropy\n"
    "def doubled(logits, labels): return 2 * cross_entropy(logits, labels)\n"
    "def slow(learning_rate, factor: float = 0.5):\n"
    "  return optax.sgd(lambda step: factor * learning_rate(step))\n"
    "class Said:\n"
    "  def __init__(self, start): self.file = start.workdir / 'said.txt'\n"
    "  def write(self, step, values): self.file.write_text(str(step))\n"
    "  def close(self): pass\n"
  )
  command = [
    *(f"--config={TINY_RUN}", f"--workdir={folder}", "--quiet"),
    *(f"--config.task.loss={file}:doubled", "--config.train.num_devices=1"),
    *(f"--config.optimizer.name={file}:slow", "--config.optimizer.factor=0.3"),
    *(f"--config.log.backends={file}:Said", "--config.train.epochs=1"),
  ]
  with jax.numpy_dtype_promotion("standard"):
    assert main(command) == 0
    (record,) = records_of(folder)
    assert (folder / "said.txt").read_text() == str(record["step"])
    file.unlink()
    # The sweep has the cross-entropy itself.
    assert main(["eval", f"--workdir={folder}", "--keep_ratios=1"]) == 0
  (row,) = json.loads((folder / "sweep.json").read_text())["rows"]
  assert record["test_dense_loss"] == pytest.approx(2 * row["loss"], rel=1e-5)
  where = {p.parent.name for p in (folder / "code").glob("*/mine.py")}
  assert where == {"log", "optimizer", "task.loss"}


def test_list_and_doctor_tell_what_there_is(capsys):
  assert main(["list"]) == 0
  listed = capsys.readouterr().out
  for name in ("wrn_strategy1", "residual_mlp", "strategy2", "folder:PATH"):
    assert f"  {name} " in listed
  assert main(["doctor"]) == 0
  told = capsys.readouterr().out
  for what in ("devices", "versions", "CIFAR-10", "free disk"):
    assert f"\n{what} " in f"\n{told}"
  assert main(["lst"]) == 2
  assert "did you mean 'list'?" in capsys.readouterr().err
  assert main(["list", "more"]) == 2


@pytest.mark.run
def test_what_is_listed_may_be_cut_off():
  done = subprocess.run(
    f"{sys.executable} -m sparse_regimes list | head -n 1",
    shell=True,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == "configs, --config=NAME\n"
  assert done.stderr == ""


@pytest.mark.run
def test_the_module_is_a_command():
  done = subprocess.run(
    [sys.executable, "-m", "sparse_regimes", "--version"],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.startswith("sparse_regimes ")


def test_the_page_s_examples_are_what_a_run_takes():
  page = (ROOT / "docs" / "your_own.md").read_text()
  names: dict = {}
  for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
    exec(compile(block, "your_own.md", "exec"), names)
  check_dataset(names["stripes"]())
  assert isinstance(names["halved"](), names["sr"].Controller)
  model = names["Net"](num_classes=2)
  logits, stats = model.init_with_output(
    names["jax"].random.key(0), np.zeros((2, 6, 8, 1), np.float32), 0.5
  )[0]
  assert logits.shape == (2, 2)
  assert stats.shape == (1,)


def test_two_folders_may_have_neighbours_of_one_name(tmp_path):
  for folder in ("a", "b"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "neighbour.py").write_text(f"WHERE = '{folder}'\n")
    (tmp_path / folder / "mine.py").write_text("from neighbour import WHERE\n")
  for folder in ("a", "b"):
    reference = f"{tmp_path}/{folder}/mine.py:WHERE"
    assert resolve(reference, "model.name") == folder
