"""Data sets by name: arrays, folders of images, prepared sets, functions."""

import numpy as np
import pytest
from PIL import Image

from sparse_regimes.data import named
from sparse_regimes.data.dataset import Dataset, Normalize, normalize
from sparse_regimes.errors import InputError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def made_up(shape=(4, 6, 3), numbers=(20, 8), num_classes=3):
  rng = np.random.default_rng(0)
  arrays = {}
  for split, n in zip(("train", "test"), numbers, strict=True):
    arrays[f"{split}_images"] = rng.integers(0, 256, (n, *shape), np.uint8)
    arrays[f"{split}_labels"] = np.arange(n, dtype=np.int64) % num_classes
  return arrays


@pytest.mark.parametrize("names", [ARRAYS, named.npz.NAMES[1]])
def test_arrays_of_a_file(tmp_path, names):
  arrays = made_up()
  path = tmp_path / "a set.npz"
  np.savez(path, **dict(zip(names, arrays.values(), strict=True)))
  order = [names.index(n) for n in names]
  data = named.load(f"npz:{path}", "")
  for i, name in zip(order, ARRAYS, strict=True):
    np.testing.assert_array_equal(getattr(data, name), [*arrays.values()][i])
  assert data.num_classes == 3
  assert data.train_labels.dtype == np.int32
  # Its own statistics, of all training pixels.
  pixels = arrays["train_images"] / 255
  np.testing.assert_allclose(data.normalize.mean, pixels.mean((0, 1, 2)))
  np.testing.assert_allclose(data.normalize.std, pixels.std((0, 1, 2)))
  scaled = np.asarray(data.preprocess(data.train_images))
  np.testing.assert_allclose(scaled.mean((0, 1, 2)), 0, atol=1e-5)


def test_arrays_without_channels_and_with_a_column_of_labels(tmp_path):
  arrays = made_up(shape=(5, 5))
  for split in ("train", "test"):
    arrays[f"{split}_labels"] = arrays[f"{split}_labels"][:, None]
  np.savez(tmp_path / "grey.npz", **arrays)
  data = named.load(f"npz:{tmp_path}/grey.npz", "")
  assert data.train_images.shape == (20, 5, 5, 1)
  assert data.test_labels.shape == (8,)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"train_images": np.zeros((20, 4, 6, 3))}, "train_images must be uint8"),
    ({"train_images": np.zeros((20, 7), np.uint8)}, "must be uint8 .*, got"),
    ({"train_labels": np.arange(19)}, r"train_labels must be 20 integers, got"),
    ({"test_labels": np.full(8, 0.5)}, "test_labels must be 8 integers, got"),
    ({"test_labels": np.full(8, -1)}, r"test_labels must be in \[0, 3\), got"),
    (
      {"test_images": np.zeros((8, 4, 4, 3), np.uint8)},
      "both splits must have images, of one shape, got",
    ),
    ({"test_labels": None}, "it must have train_images, train_labels, test"),
  ],
)
def test_what_no_run_could_train_on_is_a_line(tmp_path, change, message):
  arrays = made_up() | change
  np.savez(
    tmp_path / "a.npz", **{k: v for k, v in arrays.items() if v is not None}
  )
  with pytest.raises(InputError, match=message) as error:
    named.load(f"npz:{tmp_path}/a.npz", "")
  assert str(error.value).startswith("data.name npz:")
  assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path):
  with pytest.raises(InputError, match=r"data.name npz:.*No such file"):
    named.load(f"npz:{tmp_path}/nowhere.npz", "")
  (tmp_path / "text.npz").write_text("no arrays")
  with pytest.raises(InputError, match=r"it must be a file as numpy.savez"):
    named.load(f"npz:{tmp_path}/text.npz", "")


def write_folder(folder, *, size=(6, 4), mode="RGB", test="test"):
  rng = np.random.default_rng(0)
  for split, number in (("train", 5), (test, 2)):
    for label, name in enumerate(("ant", "bee")):
      where = folder / split / name
      where.mkdir(parents=True)
      for i in range(number):
        low, high = 100 * label, 100 * label + 100
        pixels = rng.integers(low, high, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(where / f"{i}.png")
  return folder


@pytest.mark.parametrize("test", ["test", "val"])
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1), ("P", 3)])
def test_a_folder_for_each_class(tmp_path, mode, channels, test):
  data = named.load(
    f"folder:{write_folder(tmp_path / 'set', mode=mode, test=test)}", ""
  )
  assert data.train_images.shape == (10, 4, 6, channels)
  assert data.test_images.shape == (4, 4, 6, channels)
  assert data.num_classes == 2
  # The labels are those of the images, and the first ones are of all classes.
  for images, labels in (
    (data.train_images, data.train_labels),
    (data.test_images, data.test_labels),
  ):
    np.testing.assert_array_equal(images.mean((1, 2, 3)) > 100, labels)
  assert len(set(data.train_labels[:5])) == 2
  again = named.load(f"folder:{tmp_path / 'set'}", "")
  np.testing.assert_array_equal(again.train_images, data.train_images)


def test_images_of_any_size_are_brought_to_one(tmp_path):
  folder = write_folder(tmp_path / "set")
  Image.new("RGB", (40, 20), (200, 0, 0)).save(folder / "train/bee/9.jpg")
  with pytest.raises(InputError, match=r"is 6 x 4 .*data.image_size brings|is"):
    named.load(f"folder:{folder}", "")
  data = named.load(f"folder:{folder}", "", image_size=8)
  assert data.train_images.shape == (11, 8, 8, 3)
  red = np.abs(data.train_images.astype(int) - (200, 0, 0)).max((1, 2, 3))
  assert red.min() < 8


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda f: (f / "train").rename(f / "trian"), "there is no .*train"),
    (lambda f: (f / "test/ant").rename(f / "test/asp"), "no training images"),
    (lambda f: (f / "train/wasp").mkdir(), "wasp has no image"),
    (lambda f: (f / "train/ant/0.png").write_text("x"), "0.png is no image"),
  ],
)
def test_folders_that_are_none(tmp_path, damage, message):
  folder = write_folder(tmp_path / "set")
  damage(folder)
  with pytest.raises(InputError, match=message) as error:
    named.load(f"folder:{folder}", "")
  assert "\n" not in str(error.value)


def test_a_function_of_a_file(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "import numpy as np\n"
    "from sparse_regimes.data import Dataset\n"
    "def data():\n"
    "  x, y = np.zeros((4, 2, 2, 1), np.uint8), np.arange(4)\n"
    "  return Dataset(x, y, x, y, 4, 'made up')\n"
    "def broken(): raise KeyError('lost')\n"
    "def other(): return 3\n"
  )
  data = named.load(f"{path}:data", "")
  assert data.source == "made up"
  # A channel that is the same everywhere is only shifted.
  assert data.normalize == Normalize((0.0,), (1.0,))
  for name, message in (
    ("broken", "KeyError: 'lost'"),
    ("other", "must give a Dataset, got int"),
    ("date", "has no 'date'; did you mean 'data'"),
  ):
    with pytest.raises(InputError, match=message):
      named.load(f"{path}:{name}", "")


def test_cifar10_has_its_published_statistics():
  assert named.load("cifar10_mini", "").normalize == normalize


@pytest.mark.parametrize("name", ["cifar11", "npz", "csv:a", "a.py", ""])
def test_what_is_no_name(name):
  with pytest.raises(ValueError, match=r"name must be one of cifar10, .*, got"):
    named.check_name(name)


def test_a_set_that_is_not_prepared_is_a_line(tmp_path, monkeypatch):
  pytest.importorskip("tensorflow_datasets")
  monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
  with pytest.raises(InputError, match=r"no prepared mnist in .*TensorFlow"):
    named.load("tfds:mnist", str(tmp_path))


def test_statistics_are_exact_for_many_pixels():
  images = np.full((3, 2, 2, 2), 255, np.uint8)
  images[0] = 0
  found = Normalize.of(images)
  np.testing.assert_allclose(found.mean, [2 / 3] * 2)
  np.testing.assert_allclose(found.std, [np.sqrt(2) / 3] * 2)
  assert hash(found) == hash(Normalize.of(images))
  assert isinstance(named.load("cifar10_mini", ""), Dataset)
