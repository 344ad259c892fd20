"""What a run trains and is evaluated on, whichever way the examples come."""

import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from running import TINY_RUN, records_of

from sparse_regimes.commands import train as training
from sparse_regimes.errors import InputError
from sparse_regimes.main import main
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.past_run import load_config, load_run
from sparse_regimes.tasks import Classification
from sparse_regimes.tasks.classification import splits

PACE = {"images_per_second": 0}
FIELDS = (
  *("train.batch_size=32", "train.epochs=2", "train.num_devices=1"),
  *("eval.batch_size=64", "eval.num_train=64", "data.num_train=256"),
)


def train(folder, *fields):
  with jax.numpy_dtype_promotion("standard"):
    code = main(
      [
        *(f"--config={TINY_RUN}", f"--workdir={folder}", "--quiet"),
        *(f"--config.{field}" for field in (*FIELDS, *fields)),
      ]
    )
  assert code == 0
  return records_of(folder)


def write_classes(folder):
  """Images of two classes, of which the second is brighter."""
  rng = np.random.default_rng(0)
  for split, number in (("train", 140), ("test", 40)):
    for label, name in enumerate(("dark", "light")):
      (folder / split / name).mkdir(parents=True)
      for i in range(number):
        low = 120 * label
        pixels = rng.integers(low, low + 130, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
  return folder


@pytest.mark.run
def test_streamed_it_is_the_same_run_to_the_last_bit(tmp_path):
  source = f"data.name=folder:{write_classes(tmp_path / 'set')}"
  whole = train(tmp_path / "whole", source)
  streamed = train(tmp_path / "streamed", source, "data.stream=always")
  # Two steps a call, which begins in the middle of an epoch.
  shorter = ("data.stream=always", "train.steps_per_call=3")
  several = train(tmp_path / "several", source, *shorter)
  assert whole[-1]["test_dense_accuracy"] > 0.9
  for record, other, third in zip(whole, streamed, several, strict=True):
    assert other | PACE == record | PACE
    for name in ("train_loss", "test_dense_loss"):
      assert third[name] == pytest.approx(record[name], rel=1e-4)
  # It is looked at as it was trained, and its scale is that of the run.
  assert main(["eval", f"--workdir={tmp_path / 'streamed'}"]) == 0
  rows = json.loads((tmp_path / "streamed/sweep.json").read_text())["rows"]
  best = max(r["test_dense_accuracy"] for r in streamed)
  assert rows[0]["accuracy"] == best
  constants = json.loads((tmp_path / "streamed/task.json").read_text())
  assert constants == json.loads((tmp_path / "whole/task.json").read_text())
  assert len(constants["mean"]) == 3


@pytest.mark.run
def test_killed_it_goes_on_with_the_very_batch_to_the_last_bit(
  tmp_path, monkeypatch
):
  """Streamed, augmented, with another optimizer."""
  fields = (
    *("data.stream=always", "checkpoint.every_steps=3"),
    "train.steps_per_call=1",
    *("augment.crop=4", "augment.flip=True", "augment.mixup_alpha=0.2"),
    *("augment.label_smoothing=0.1", "optimizer.name=adamw"),
    "optimizer.learning_rate=0.003",
  )
  whole = train(tmp_path / "whole", *fields)
  folder = tmp_path / "killed"

  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(training, "evaluate_all", killed)
    arguments = [f"--config.{field}" for field in (*FIELDS, *fields)]
    with jax.numpy_dtype_promotion("standard"):
      command = [f"--config={TINY_RUN}", f"--workdir={folder}", *arguments]
      assert main(command) == 130
  steps = [int(p.name) for p in (folder / "checkpoints").iterdir()]
  assert max(steps) == 6  # of 8 in the epoch
  again = shutil.copytree(folder, tmp_path / "again")
  for record, wanted in zip(train(folder, *fields), whole, strict=True):
    assert record | PACE == wanted | PACE
  # In calls of another size, of which what is left of the epoch is none.
  others = train(again, *fields, "train.steps_per_call=5")
  for record, wanted in zip(others, whole, strict=True):
    assert record["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-3)


@pytest.mark.run
def test_other_sets_a_validation_split_and_averaged_parameters(tmp_path):
  rng = np.random.default_rng(1)
  noise = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
  np.savez(
    tmp_path / "noise.npz",
    **{"train_images": noise, "test_images": noise},
    **{"train_labels": np.arange(64) % 10, "test_labels": np.arange(64) % 10},
  )
  folder = tmp_path / "run"
  *_, record = records = train(
    folder,
    f"eval.sets=noise=npz:{tmp_path}/noise.npz; again=cifar10_mini",
    *("data.num_validation=128", "train.ema_decay=0.5", "train.accumulate=2"),
    "log.page=True",
  )
  for name in ("validation", "noise", "again", "ema"):
    for budget in ("sparse", "dense"):
      assert 0 <= record[f"{name}_{budget}_accuracy"] <= 1
  # The test split of the run's own set, whole.
  for number in ("loss", "accuracy"):
    test = record[f"test_dense_{number}"]
    assert record[f"again_dense_{number}"] == pytest.approx(test)
  assert record["ema_dense_loss"] != record["test_dense_loss"]
  summary = json.loads((folder / "summary.json").read_text())
  chosen = max(
    records, key=lambda r: (r["validation_dense_accuracy"], r["epoch"])
  )
  assert summary["best_epoch"] == chosen["epoch"]
  assert summary["final_noise_dense_accuracy"] == record["noise_dense_accuracy"]
  page = (folder / "report.html").read_text()
  assert "chosen by the images that are held out for that" in page
  assert "averaged parameters" in page
  assert "noise set" in page
  # An update in two steps.
  config = load_config(epath.Path(folder), "last")
  run = load_run(epath.Path(folder), config, "last", print)
  assert int(run.state.opt_state.gradient_step) == 8
  assert int(run.state.step) == 16
  arguments = [f"--workdir={folder}", "--keep_ratios=1", "--checkpoint=last"]
  assert main(["eval", *arguments]) == 0
  content = json.loads((folder / "sweep.json").read_text())
  assert content["rows"][0]["accuracy"] == record["test_dense_accuracy"]
  assert set(content["others"]) == {"validation", "noise", "again"}
  noise_row = content["others"]["noise"][0]
  assert noise_row["accuracy"] == record["noise_dense_accuracy"]
  assert main(["eval", *arguments, "--config.eval.parameters=ema"]) == 0
  (row,) = json.loads((folder / "sweep.json").read_text())["rows"]
  assert row["accuracy"] == record["ema_dense_accuracy"]


def test_what_is_held_out_is_trained_on_by_nobody():
  fields = [
    *("data.num_validation=100", "data.num_test=200"),
    *("data.evaluate_on=validation", "train.batch_size=32"),
  ]
  task = Classification(configs.load("smoke", fields), print)
  whole = Classification(configs.load("smoke", ["train.batch_size=32"]), print)
  images = whole.train_examples["images"]
  assert task.num_train == len(images) - 300
  for name, wanted in (
    ("test", slice(-300, -100)),
    ("validation", slice(-100, None)),
  ):
    np.testing.assert_array_equal(
      task.evaluation_sets[name]["images"], images[wanted]
    )
  with pytest.raises(InputError, match=r"data.num_train must leave 300 of the"):
    configs.load("smoke", [*fields, "data.num_train=1000"])


@pytest.mark.parametrize(
  ("field", "message"),
  [
    ("eval.sets=cifar10_mini", "eval.sets must be NAME=DATA;NAME=DATA, with"),
    (
      "eval.sets=test=cifar10_mini",
      "names of their own other than train, test",
    ),
    ("eval.sets=a=cifar10_mini;a=cifar10_mini", "eval.sets must be NAME=DATA"),
    ("eval.sets=a=cifar11", "eval.sets: name must be one of cifar10"),
    ("data.num_validation=1280", "data.num_validation must be in"),
    ("data.stream=often", "data.stream must be one of auto, always, never"),
    ("train.ema_decay=1.0", "train.ema_decay must be in"),
    ("train.accumulate=0", "train.accumulate must be in"),
    ("eval.parameters=both", "eval.parameters must be one of trained, ema"),
    ("task.name=regression", "task.name must be one of classification"),
    ("eval.sets=a=:", "eval.sets must be NAME=DATA"),
  ],
)
def test_fields_out_of_range_are_a_line(field, message):
  with pytest.raises(InputError, match=message):
    configs.load("smoke", [field])


def test_classes_go_by_their_names(tmp_path):
  write_classes(tmp_path / "set")
  write_classes(tmp_path / "other")
  for split in ("train", "test"):
    (tmp_path / "other" / split / "dark").rename(tmp_path / f"{split}-dark")
  fields = [
    *(f"data.name=folder:{tmp_path}/set", "train.batch_size=32"),
    f"eval.sets=other=folder:{tmp_path}/other",
  ]
  task = Classification(configs.load("smoke", fields), print)
  # It has the second class alone.
  assert set(task.evaluation_sets["other"]["labels"].tolist()) == {1}
  for split in ("train", "test"):
    folder = tmp_path / "other" / split
    (folder / "light").rename(folder / "bright")
  with pytest.raises(InputError, match="its classes must be among those of"):
    Classification(configs.load("smoke", fields), print)


def test_an_image_that_is_damaged_is_named_whenever_it_is_read(
  tmp_path, capsys
):
  write_classes(tmp_path / "set")
  damaged = tmp_path / "set" / "train" / "dark" / "7.png"
  damaged.write_bytes(damaged.read_bytes()[:60])
  for stream in ("always", "never"):
    command = [
      *(f"--config={TINY_RUN}", f"--workdir={tmp_path / 'run'}"),
      *(f"--config.data.name=folder:{tmp_path}/set",),
      *(f"--config.data.stream={stream}", "--config.train.batch_size=32"),
    ]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{damaged} could not be read" in line


def test_what_is_evaluated_is_part_of_the_digest():
  digests = {
    Classification(
      configs.load("smoke", ["data.num_train=512", *fields]), print
    ).digest
    for fields in (
      [],
      ["data.num_validation=100"],
      ["eval.sets=a=cifar10_mini"],
      ["data.num_test=128"],
    )
  }
  assert len(digests) == 4


@pytest.mark.run
def test_a_set_of_a_file_of_one_s_own_is_kept_with_the_run(tmp_path):
  file, folder = tmp_path / "mine.py", tmp_path / "run"
  file.write_text(
    "from sparse_regimes.data import mini\ndef other(): return mini.load()\n"
  )
  train(folder, f"eval.sets=own={file}:other", "train.epochs=1")
  assert (folder / "code" / "eval.own" / "mine.py").exists()
  file.unlink()
  assert main(["eval", f"--workdir={folder}", "--keep_ratios=1"]) == 0
  content = json.loads((folder / "sweep.json").read_text())
  assert content["others"]["own"][0]["accuracy"] == pytest.approx(
    content["rows"][0]["accuracy"]
  )


@pytest.mark.parametrize("field", ["rollback", "restart_at_resets"])
def test_what_would_miss_a_reset_is_refused(field):
  fields = ["train.accumulate=2", f"optimizer.{field}=True"]
  with pytest.raises(InputError, match=f"must be 1 where optimizer.{field} is"):
    configs.load("smoke", fields)


def test_a_set_of_other_images_is_a_line(tmp_path):
  write_classes(tmp_path)
  fields = [f"eval.sets=small=folder:{tmp_path}", "train.batch_size=32"]
  with pytest.raises(InputError, match=r"eval\.sets, small: it must have"):
    splits.load(configs.load("smoke", fields), print)


def test_by_update_the_rate_is_that_of_the_step():
  fields = ["train.accumulate=4", "optimizer.per_step=True", "train.epochs=10"]
  config = configs.load("smoke", fields)
  schedule = factory.make_schedule(config, steps_per_epoch=40)
  parts = factory.make_parts(config, num_classes=10, steps_per_epoch=40)
  params = {"w": np.ones(3, np.float32)}
  state, moved = parts.tx.init(params), []
  with jax.numpy_dtype_promotion("standard"):
    for step in range(8):
      gradient = {"w": np.full(3, float(step), np.float32)}
      updates, state = parts.tx.update(gradient, state, params)
      moved.append(float(updates["w"][0]))
  assert moved[:3] == [0, 0, 0]
  assert moved[4:7] == [0, 0, 0]
  # Nesterov of the mean gradient of four steps; decay adds nothing at first.
  decay = config.optimizer.weight_decay
  momentum = config.optimizer.momentum
  first = 1.5 + decay
  wanted = -float(schedule(0)) * first * (1 + momentum)
  assert moved[3] == pytest.approx(wanted, rel=1e-5)
  second = 5.5 + decay
  trace = momentum * first + second
  wanted = -float(schedule(4)) * (second + momentum * trace)
  assert moved[7] == pytest.approx(wanted, rel=1e-5)
