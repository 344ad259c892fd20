"""Runs of a language model, from the command line on."""

import json
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from running import ROOT, read_until, records_of

from sparse_regimes.main import main
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.task import make_task

TINY_TEXT = ROOT / "tests" / "tiny_text.py"


def run(workdir, *arguments):
  with jax.numpy_dtype_promotion("standard"):
    code = main(
      [
        *(f"--config={TINY_TEXT}", f"--workdir={workdir}"),
        *("--config.train.num_devices=1", *arguments),
      ]
    )
  assert code == 0


@pytest.fixture
def trained_text(once):
  return once("trained_text", lambda folder: run(folder / "run")) / "run"


def started(workdir, *arguments):
  return subprocess.Popen(
    [
      *(sys.executable, "-u", "-m", "sparse_regimes.main"),
      *(f"--config={TINY_TEXT}", f"--workdir={workdir}", *arguments),
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
  )


@pytest.mark.run
def test_a_run_and_its_records(trained_text):
  records = records_of(trained_text)
  assert len(records) == 2
  for record in records:
    # Of bytes the one is the other.
    bits = record["test_dense_loss"] / np.log(2)
    assert 0 < record["test_dense_accuracy"] < 1
    assert bits < 8
  assert records[1]["test_dense_loss"] < records[0]["test_dense_loss"]
  # It heard of the loss, and compressed.
  assert records[1]["keep_ratio"] < 1
  summary = json.loads((trained_text / "summary.json").read_text())
  assert summary["chosen_by"] == "loss"
  assert summary["tokens_per_second"] == pytest.approx(
    16 * summary["images_per_second"]
  )
  constants = json.loads((trained_text / "task.json").read_text())
  assert "e" in str(constants)


@pytest.mark.run
def test_sweep_page_and_text(trained_text, tmp_path, capsys):
  with jax.numpy_dtype_promotion("standard"):
    assert not main(
      ["eval", f"--workdir={trained_text}", "--keep_ratios=1,0.25"]
    )
    sweep = json.loads((trained_text / "sweep.json").read_text())
    for row in sweep["rows"]:
      assert row["bits_per_byte"] == pytest.approx(
        row["loss"] / np.log(2), rel=1e-5
      )
    assert sweep["rows"][1]["site_nonzero"] == [0.25, 0.25]
    page = (trained_text / "report.html").read_text()
    assert " tokens/s" in page
    assert "chosen by the loss of the test windows themselves" in page
    capsys.readouterr()
    command = ["generate", f"--workdir={trained_text}", "--prompt=the "]
    assert not main([*command, "--num_tokens=40", "--keep_ratios=1,0.25"])
  told = capsys.readouterr().out
  parts = told.split("--- keep ratio ")
  assert [part.split("\n")[0] for part in parts[1:]] == ["1", "0.25"]
  for part in parts[1:]:
    # More than the context, which therefore began anew.
    text = part.split("\n", 1)[1]
    assert text.startswith("the ")
    assert len(text.removesuffix("\n").removesuffix("\n")) >= 43


@pytest.mark.run
def test_what_is_drawn_depends_on_the_seed_alone(trained_text, capsys):
  def told(*arguments):
    command = ["generate", f"--workdir={trained_text}", "--keep_ratios=0.25"]
    with jax.numpy_dtype_promotion("standard"):
      assert not main([*command, "--prompt=a", "--num_tokens=30", *arguments])
    return capsys.readouterr().out

  first = told("--draw_seed=3")
  assert told("--draw_seed=3") == first
  assert told("--draw_seed=4") != first
  # Gathered it is the same but for the last bits, which here decide nothing.
  assert told("--draw_seed=3", "--gather") == first
  assert told("--temperature=0", "--draw_seed=1") == told("--temperature=0")


@pytest.mark.run
@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--prompt="], "--prompt: it must have 1 to 16 tokens"),
    (["--prompt=" + "a" * 17], "the context, got 17"),
    (["--prompt=漢"], "--prompt: '漢' (character 1) is not among"),
    (["--num_tokens=0"], "--num_tokens must be"),
    (["--temperature=-1"], "--temperature must be"),
    (["--keep_ratios=1/0.5/0.2"], "--keep_ratios: "),
  ],
)
def test_what_cannot_be_gone_on_with_is_a_line(
  trained_text, capsys, arguments, message
):
  with jax.numpy_dtype_promotion("standard"):
    assert main(["generate", f"--workdir={trained_text}", *arguments]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line


@pytest.mark.parametrize(
  ("field", "message"),
  [
    ("data.name=cifar10", "data.name must be one of shakespeare"),
    ("data.image_size=8", "data.image_size must be 0 where task.name is"),
    ("augment.flip=True", "augment.flip must be False where task.name is"),
    ("task.level=word", "level must be one of character, byte"),
    ("task.context=0", "context must be"),
    ("task.context=5000", "must have 5001 tokens for a task.context of 5000"),
    ("train.batch_size=500", "train.batch_size must be at most the 80 trainin"),
    ("model.scope=global", "scope must be channel"),
    ("model.name=wide_resnet", "model.name must be transformer or FILE.py:Na"),
    ("model.name=actor_critic", "where task.name is language, got actor_crit"),
    ("controller.signal=return", "controller.signal must be loss or accuracy"),
    ("data.num_validation=900", "data.num_validation must leave training wind"),
  ],
)
def test_mistakes_are_a_line(tmp_path, capsys, field, message):
  workdir = tmp_path / "run"
  command = [f"--config={TINY_TEXT}", f"--workdir={workdir}"]
  with jax.numpy_dtype_promotion("standard"):
    assert main([*command, f"--config.{field}"]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line
  assert not workdir.exists()


def made(*overrides):
  config = configs.load(str(TINY_TEXT), overrides)
  return config, make_task(config, print)


def test_windows_are_from_all_over_the_text():
  _, task = made()
  tokens = np.asarray(task.text.train)
  rows = np.asarray(task.train_examples["tokens"])
  assert len(rows) == 80
  starts = np.arange(80) * (len(tokens) - 16) // 80
  for row, start in zip(rows, starts, strict=True):
    np.testing.assert_array_equal(row, tokens[start : start + len(row)])
  # The last window of the text is among those that may be drawn.
  np.testing.assert_array_equal(rows[-1][-17:], tokens[-17:])
  _, whole = made("data.num_train=0")
  assert whole.num_train == (len(tokens) - 16) // 16


def test_held_out_windows_are_the_last_and_are_not_trained():
  _, task = made("data.num_validation=10")
  tokens = np.asarray(task.text.train)
  rows = np.asarray(task.train_examples["tokens"])
  held_out = np.asarray(task.evaluation_sets["validation"]["tokens"])
  assert held_out.shape == (10, 17)
  np.testing.assert_array_equal(held_out[-1], tokens[-17:])
  begin = len(tokens) - 161
  np.testing.assert_array_equal(held_out[0], tokens[begin : begin + 17])
  np.testing.assert_array_equal(rows[-1], tokens[begin - rows.shape[1] : begin])
  seen = np.asarray(task.evaluation_sets["train"]["tokens"])
  np.testing.assert_array_equal(seen[0], tokens[:17])


def test_the_vocabulary_belongs_to_the_run():
  config, task = made()
  again = make_task(config, print, task.constants)
  assert again.text.vocabulary == task.text.vocabulary
  assert again.digest == task.digest
  parts = factory.make_parts(config, steps_per_epoch=1, **task.arguments)
  assert parts.model.vocabulary == len(task.text.vocabulary)


@pytest.mark.run
def test_a_vocabulary_is_not_used_for_another_text(
  trained_text, tmp_path, capsys
):
  other = tmp_path / "other.txt"
  other.write_text("może. " * 90)
  with jax.numpy_dtype_promotion("standard"):
    code = main(
      [
        *("eval", f"--workdir={trained_text}"),
        f"--config.data.name=text:{other}",
      ]
    )
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "'ż' (character 3) is not among the" in line


@pytest.mark.slow
@pytest.mark.run
def test_streamed_killed_and_gone_on_it_is_the_same(tmp_path):
  """From the disk: killed in an epoch, as in one piece, and as from memory."""
  level = "--config.task.level=byte"
  run(tmp_path / "memory", level)
  arguments = (level, "--config.data.stream=always")
  run(tmp_path / "whole", *arguments)
  with started(
    tmp_path / "broken",
    *arguments,
    "--config.train.num_devices=1",
    "--config.checkpoint.every_steps=5",
  ) as process:
    read_until(process, "epoch   1/2")
    process.send_signal(signal.SIGKILL)
  run(tmp_path / "broken", *arguments)
  ours, theirs = (
    [
      {k: v for k, v in record.items() if k != "images_per_second"}
      for record in records_of(tmp_path / name)
    ]
    for name in ("broken", "whole")
  )
  assert ours == theirs
  # Another program may add up a loss in another order.
  for record, other in zip(
    theirs, records_of(tmp_path / "memory"), strict=True
  ):
    for name, value in record.items():
      assert value == pytest.approx(other[name], rel=1e-5), name


@pytest.mark.run
def test_what_changed_since_the_run_began_is_noticed(
  trained_text, tmp_path, capsys
):
  text = tmp_path / "mine.txt"
  text.write_text("A word and another. " * 400)
  arguments = (f"--config.data.name=text:{text}", "--config.train.epochs=1")
  run(tmp_path / "run", *arguments)
  # As many characters, the same ones: only the text has changed.
  text.write_text("Another and a word. " * 399 + "A word and another. ")
  arguments += (f"--workdir={tmp_path / 'run'}", f"--config={TINY_TEXT}")
  with jax.numpy_dtype_promotion("standard"):
    code = main([*arguments, "--config.train.num_devices=1"])
  assert code == 2
  assert "is not what the run in" in capsys.readouterr().err
  # What a number stood for must not become something else.
  with jax.numpy_dtype_promotion("standard"):
    code = main(
      [
        *(*arguments[:2], f"--workdir={tmp_path / 'new'}", arguments[-1]),
        *("--config.train.num_devices=1",),
        f"--config.train.start_from={trained_text}",
      ]
    )
  assert code == 2
  assert "text of the same characters" in capsys.readouterr().err
