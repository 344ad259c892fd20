import json
import sys
from pathlib import Path

import pytest

from sparse_regimes.commands.evaluate import parse_keep_ratios
from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs

CONFIGS = Path(__file__).parent.parent.parent / "configs"
SMOKE = str(CONFIGS / "smoke.py")


def test_a_file_is_completed_with_defaults():
  config = configs.load(SMOKE)
  assert config.model.depth == 10
  assert config.optimizer.momentum == 0.9
  assert config.controller.relax_gain == 1.5


def test_overrides_win_and_keep_types():
  config = configs.load(
    SMOKE,
    [
      "train.epochs=7",
      "optimizer.learning_rate=1",
      "optimizer.nesterov=false",
      "optimizer.milestones=(1,2)",
      "data.dir=/tmp/a=b",
      "controller.drop_tol=1e-3",
    ],
  )
  assert config.train.epochs == 7
  assert type(config.optimizer.learning_rate) is float
  assert config.optimizer.nesterov is False
  assert config.optimizer.milestones == (1, 2)
  assert config.data.dir == "/tmp/a=b"
  assert config.controller.drop_tol == 1e-3


def test_what_a_run_writes_can_be_read_back(tmp_path):
  config = configs.load(SMOKE, ["optimizer.milestones=(1,2)"])
  path = tmp_path / "config.json"
  path.write_text(json.dumps(config.to_dict()))
  assert configs.load(str(path)) == config


def test_the_controller_section_holds_what_the_controller_takes():
  config = configs.load(SMOKE, ["controller.name=constant"])
  assert config.controller.to_dict() == {"name": "constant", "keep_ratio": 1.0}
  config = configs.load(
    SMOKE, ["controller.name=constant", "controller.keep_ratio=0.5"]
  )
  assert config.controller.keep_ratio == 0.5
  strategy2 = configs.load(SMOKE, ["controller.name=strategy2"]).controller
  assert strategy2.keep_min == 0.02  # its own default, not Strategy 1's
  assert strategy2.tighten_pct == 0.2  # the file's


def test_shipped_configs_go_by_name():
  assert configs.load("smoke") == configs.load(SMOKE)


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("model.norm=group", "model.norm must be one of rms, ln, bn, none, got"),
    ("model.activation=sine", "model.activation must be one of relu, leakyrel"),
    ("model.scope=row", "model.scope must be one of global, channel, got"),
    ("model.score=rank", "model.score must be one of value, magnitude, got"),
    ("model.name=vit", "model.name must be one of actor_critic, residual"),
    (
      "model.heads=3",
      "model.heads is not a field of the wide_resnet model, wh",
    ),
    ("model.dtype=int8", "model.dtype must be one of auto, float32, bfloat16"),
    ("optimizer.milestones=(9,-1)", "optimizer.milestones must be in \\[0, 1"),
    ("model.depth=12", "model.depth must be 6n \\+ 4 .*, got 12"),
    ("model.dropout=1.5", "model.dropout must be in \\[0, 1\\), got 1.5"),
    ("controller.name=pid", "controller.name must be one of adaptive"),
    ("controller.keep_min=1.5", "controller.keep_min must be in \\[0, 1\\]"),
    ("controller.keep_max=nan", "controller.keep_max must be float, got 'nan'"),
    ("controller.patience=2", "controller.patience is not a field of the stra"),
    (
      "data.name=mnist",
      "data.name must be one of cifar10, cifar100, cifar10_mini",
    ),
    ("optimizer.schedule=step", "optimizer.schedule must be one of cosine,"),
    ("optimizer.learning_rate=-1", "optimizer.learning_rate must be at least"),
    ("optimizer.milestones=3", "optimizer.milestones must be a tuple of int"),
    ("train.epochs=0", "train.epochs must be in \\[1, 1000000\\], got 0"),
    ("train.epochs=2.5", "train.epochs must be int, got 2.5"),
    ("train.epochs=two", "train.epochs must be int, got 'two'"),
    ("train.epochs=True", "train.epochs must be int, got True"),
    ("train.epoch=2", "train.epoch: train has no field 'epoch', but acc"),
    ("trian.epochs=2", "trian.epochs: config has no section 'trian', but"),
    ("train=2", "train is a section; set one of accumulate, batch_size"),
    ("train.epochs.x=2", "train.epochs.x: train has no section 'epochs'"),
    ("train.epochs", "train.epochs must be given as train.epochs=VALUE"),
    ("seed=-1", "seed must be in \\[0, 4294967295\\], got -1"),
    ("eval.batch_size=0", "eval.batch_size must be in \\[1, 1000000\\], got"),
    ("checkpoint.every_epochs=-1", "checkpoint.every_epochs must be at least"),
    ("checkpoint.keep=0", "checkpoint.keep must be in \\[1, 1000\\], got 0"),
    ("train.parameters=split", "train.parameters must be one of replicated"),
    ("train.on_nonfinite=go", "train.on_nonfinite must be one of stop, skip"),
    ("=3", "config has no field ''"),
  ],
)
def test_a_mistake_is_one_line_naming_the_field(override, message):
  with pytest.raises(InputError, match=message) as error:
    configs.load(SMOKE, [override])
  assert "\n" not in str(error.value)


def test_keep_min_above_keep_max():
  with pytest.raises(InputError, match=r"controller.keep_min must be at most"):
    configs.load(SMOKE, ["controller.keep_min=0.6", "controller.keep_max=0.5"])


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("x = ", "SyntaxError"),
    ("get_confg = 1", "KeyError"),
    ("def get_config(): return 3", "must give a dict or a ConfigDict, got int"),
    ("def get_config(): return {'a': 1 / 0}", "ZeroDivisionError"),
    ("def get_config(): return {'sed': 1}", "config has no field 'sed'"),
    ("def get_config(): return {1: 2}", "config has no field '1'"),
  ],
)
def test_a_file_that_is_no_config(tmp_path, content, message):
  path = tmp_path / "config.py"
  path.write_text(content)
  with pytest.raises(InputError, match=message) as error:
    configs.load(str(path))
  assert "\n" not in str(error.value)


def test_a_file_may_use_its_neighbours_and_take_an_argument(tmp_path):
  """In each folder its own neighbour, whatever another one was called."""
  for folder, seed in (("a", 1), ("b", 2)):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "base.py").write_text(
      f"def get_config(): return {{'seed': {seed}}}"
    )
    (tmp_path / folder / "member.py").write_text(
      "import base\n"
      "def get_config(epochs=3):\n"
      "  return base.get_config() | {'train': {'epochs': int(epochs)}}\n"
    )
  before = [*sys.path], {*sys.modules}
  for folder, seed in (("a", 1), ("b", 2)):
    path = str(tmp_path / folder / "member.py")
    for given, epochs in ((path, 3), (f"{path}:7", 7)):
      config = configs.load(given)
      assert (config.seed, config.train.epochs) == (seed, epochs)
  assert ([*sys.path], {*sys.modules}) == before
  with pytest.raises(InputError, match="could not be read: ValueError"):
    configs.load(f"{path}:many")
  with pytest.raises(InputError, match=r"got 'nope\.py:7', which does"):
    configs.load("nope.py:7")


def test_a_missing_file_lists_the_shipped_ones():
  with pytest.raises(InputError, match=r"quickstart, smoke.*got 'nope.py'"):
    configs.load("nope.py")


@pytest.mark.parametrize("text", ["", "a", "0.5,", "1.5", "-0.1", "nan"])
def test_keep_ratios_that_are_none(text):
  with pytest.raises(InputError, match=r"--keep_ratios must be numbers in"):
    parse_keep_ratios(text)


@pytest.mark.parametrize("argument", ["--epochs=2", "extra", "--conf.x=1"])
def test_unknown_arguments_are_named(argument):
  with pytest.raises(InputError, match=f"{argument} is not a known argument"):
    configs.parse_overrides([argument])
