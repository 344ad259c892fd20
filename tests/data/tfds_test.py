"""On directories written by array_record itself, without TensorFlow."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from sparse_regimes.data import tfds, tfds_sets
from sparse_regimes.data.release import AbsentError, UnavailableError

library = pytest.importorskip("tensorflow_datasets")
array_record = pytest.importorskip("array_record.python.array_record_module")

TRAIN_FILE = "cifar10-train.array_record-00000-of-00001"


def write(toy, folder, version="3.0.2", file_format="array_record"):
  """What ``download_and_prepare`` leaves, with the records shuffled."""
  from tensorflow_datasets.proto import tf_example_pb2

  folder.mkdir(parents=True)
  library.features.FeaturesDict(
    {
      "id": library.features.Text(),
      "image": library.features.Image(shape=(32, 32, 3)),
      "label": library.features.ClassLabel(num_classes=10),
    }
  ).save_config(folder)
  rng = np.random.default_rng(1)
  splits = []
  for split, part in (("train", slice(0, 5)), ("test", slice(5, 6))):
    images = toy.images[part].reshape(-1, 32, 32, 3)
    labels = toy.labels[part].ravel()
    name = f"cifar10-{split}.{file_format}-00000-of-00001"
    writer = array_record.ArrayRecordWriter(str(folder / name), "group_size:1")
    for index in rng.permutation(len(images)):
      example = tf_example_pb2.Example()
      feature = example.features.feature
      feature["id"].bytes_list.value.append(f"{split}_{index:05d}".encode())
      feature["image"].bytes_list.value.append(toy.to_png(images[index]))
      feature["label"].int64_list.value.append(int(labels[index]))
      writer.write(example.SerializeToString())
    writer.close()
    splits.append(
      {
        "name": split,
        "shardLengths": [str(len(images))],
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
      }
    )
  info = {
    "name": "cifar10",
    "version": version,
    "fileFormat": file_format,
    "splits": splits,
  }
  (folder / "dataset_info.json").write_text(json.dumps(info))
  return folder


@pytest.mark.parametrize("root", ["data", "environment", "home"])
def test_reads_each_place(root, toy, tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
  roots = {
    "data": tmp_path / "data",
    "environment": tmp_path / "environment",
    "home": Path(os.environ["HOME"]) / "tensorflow_datasets",
  }
  folder = write(toy, roots[root] / "cifar10" / "3.0.2")
  batches = tfds.read(tmp_path / "data", toy.release, print)
  assert batches.files == toy.files
  assert batches.source == f"tensorflow-datasets directory {folder}"


def test_nothing_there(toy, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(AbsentError, match=r"no cifar10/3.0.2 in .*; prepare it"):
    tfds.read(tmp_path, toy.release, print)


def test_library_is_not_installed(toy, tmp_path, monkeypatch):
  (tmp_path / "cifar10" / "3.0.2").mkdir(parents=True)
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(UnavailableError, match=r"'sparse_regimes\[tfds\]'"):
    tfds.read(tmp_path, toy.release, print)


class NoTensorflow:
  """An import finder for which TensorFlow is not installed."""

  def find_spec(self, name, *_):
    if name.partition(".")[0] == "tensorflow":
      raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_tfrecord_needs_tensorflow(toy, tmp_path, monkeypatch):
  write(toy, tmp_path / "cifar10" / "3.0.2", file_format="tfrecord")
  monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
  monkeypatch.setattr(sys, "meta_path", [NoTensorflow(), *sys.meta_path])
  with pytest.raises(
    UnavailableError, match=r"tfrecord files.*TensorFlow"
  ) as caught:
    tfds.read(tmp_path, toy.release, print)
  assert caught.value.remedy == "pip install 'sparse_regimes[tfds]'"


def edit_info(change):
  def damage(folder):
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))

  return damage


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda folder: (folder / "dataset_info.json").unlink(), ""),
    (lambda folder: (folder / "dataset_info.json").write_text("{"), ""),
    (lambda folder: (folder / "features.json").unlink(), ""),
    (lambda folder: (folder / TRAIN_FILE).unlink(), "No such file"),
    (lambda folder: (folder / TRAIN_FILE).write_bytes(b""), "RuntimeError"),
    (lambda folder: os.truncate(folder / TRAIN_FILE, 200_000), "RuntimeError"),
    (edit_info(lambda info: info.update(name="cifar100")), "it holds cifar100"),
    (edit_info(lambda info: info.update(version="3.0.1")), "cifar10/3.0.1"),
    (
      edit_info(lambda info: info["splits"][0].update(shardLengths=["99"])),
      "its splits have {'train': 99, 'test': 20} examples",
    ),
    (
      edit_info(lambda info: info["splits"].pop()),
      "its splits have {'train': 100} examples",
    ),
  ],
)  # fmt: skip
def test_broken_directory_is_a_reason(damage, message, toy, tmp_path):
  folder = write(toy, tmp_path / "cifar10" / "3.0.2")
  damage(folder)
  with pytest.raises(UnavailableError) as caught:
    tfds.read(tmp_path, toy.release, print)
  assert not isinstance(caught.value, AbsentError)
  assert str(folder) in caught.value.reason
  assert message in caught.value.reason
  assert "\n" not in caught.value.reason


def test_other_pixels_are_refused(toy, tmp_path):
  other = toy._replace(images=255 - toy.images)
  write(other, tmp_path / "cifar10" / "3.0.2")
  with pytest.raises(UnavailableError, match=r"data_batch_1\.bin: MD5 is"):
    tfds.read(tmp_path, toy.release, print)


def test_sound_directory_is_read_past_a_broken_one(toy, tmp_path, monkeypatch):
  (tmp_path / "data" / "cifar10" / "3.0.2").mkdir(parents=True)
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
  write(toy, tmp_path / "environment" / "cifar10" / "3.0.2")
  batches = tfds.read(tmp_path / "data", toy.release, print)
  assert batches.files == toy.files


def test_any_prepared_set_by_its_name_and_rules(toy, tmp_path):
  write(toy, tmp_path / "cifar10" / "3.0.2")
  data = tfds_sets.load("cifar10", tmp_path)
  written = toy.images.reshape(-1, 32, 32, 3)
  number = len(data.train_labels)
  assert number == len(written) * 5 // 6
  assert len(data.test_labels) == len(written) // 6
  assert data.num_classes == 10
  found = {image.tobytes() for image in data.train_images}
  assert found == {image.tobytes() for image in written[:number]}
  ruled = tfds_sets.load("cifar10/3.0.2:train[:3],train[3:]", tmp_path)
  assert len(ruled.train_labels) == 3
  np.testing.assert_array_equal(
    np.concatenate([*map(np.asarray, (ruled.train_images, ruled.test_images))]),
    data.train_images,
  )
  with pytest.raises(ValueError, match="split rules must be TRAIN,TEST, got"):
    tfds_sets.load("cifar10:train", tmp_path)
