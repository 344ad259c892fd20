import json
import os
import signal
import subprocess
import sys

import pytest
from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs
from sparse_regimes.runs.workdir import (
  check_workdir,
  free_workdir,
  fresh_workdir,
  open_workdir,
  store_constants,
  stored_constants,
)

SMOKE = configs.load("smoke")


@pytest.fixture
def folder(tmp_path):
  return epath.Path(tmp_path)


def begun(folder):
  """A run's folder with something to go on from."""
  with open_workdir(folder, SMOKE):
    (folder / "checkpoints" / "8").mkdir(parents=True)


def test_one_that_was_refused_before_it_began_may_be_another(folder):
  with open_workdir(folder, SMOKE):
    store_constants(folder, {"vocabulary": "abc"}, 7)
  other = configs.load("smoke", ["seed=7"])
  check_workdir(folder, other)
  with open_workdir(folder, other):
    assert stored_constants(folder) is None
    store_constants(folder, {"vocabulary": "abcd"}, 8)
  assert json.loads((folder / "config.json").read_text())["seed"] == 7
  (folder / "checkpoints" / "8").mkdir(parents=True)
  assert stored_constants(folder) == {"vocabulary": "abcd", "digest": 8}
  with pytest.raises(InputError, match="holds a run of another config"):
    check_workdir(folder, SMOKE)


def test_the_same_config_goes_on_and_another_is_refused(folder):
  begun(folder)
  check_workdir(folder, configs.load("smoke"))
  other = configs.load("smoke", ["seed=7", "model.norm=bn"])
  with pytest.raises(InputError) as error:
    check_workdir(folder, other)
  assert "model.norm (was 'rms', now 'bn'), seed (was 0, now 7)" in str(
    error.value
  )
  with pytest.raises(InputError), open_workdir(folder, other):
    pass
  assert json.loads((folder / "config.json").read_text())["seed"] == 0


def test_what_decides_nothing_may_change(folder):
  begun(folder)
  changed = configs.load(
    "smoke",
    ["train.epochs=9", "checkpoint.every_steps=5", "train.on_nonfinite=skip"],
  )
  with open_workdir(folder, changed):
    pass
  assert (
    json.loads((folder / "config.json").read_text())["train"]["epochs"] == 9
  )
  # It may be extended, not shortened.
  with pytest.raises(InputError, match=r"train.epochs \(was 9, now 3\)"):
    check_workdir(folder, SMOKE)


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints"])
def test_a_run_without_a_config_is_refused(folder, name):
  check_workdir(folder, SMOKE)
  (folder / name).touch()
  with pytest.raises(InputError, match=f"which has {name} but no config.json"):
    check_workdir(folder, SMOKE)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"seed": "a"}', "\0\xff"])
def test_a_damaged_config_is_refused(folder, content):
  (folder / "config.json").write_text(content)
  with pytest.raises(InputError, match=r"config\.json|seed must be int"):
    check_workdir(folder, SMOKE)


def test_other_files_are_no_run(folder):
  (folder / "notes.txt").touch()
  check_workdir(folder, SMOKE)
  check_workdir(folder / "new" / "deep", SMOKE)
  assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_a_file_is_no_folder(folder):
  file = folder / "file"
  file.touch()
  for path in (file, file / "below"):
    with pytest.raises(InputError, match="must be a folder"):
      check_workdir(path, SMOKE)
    with (
      pytest.raises(InputError, match="--workdir must be"),
      open_workdir(path, SMOKE),
    ):
      pass


def test_of_two_runs_one_gets_the_folder(folder):
  with open_workdir(folder, SMOKE):
    for use in (check_workdir, lambda *a: open_workdir(*a).__enter__()):
      with pytest.raises(
        InputError, match=f"in use .*process {os.getpid()} on"
      ):
        use(folder, SMOKE)
  check_workdir(folder, SMOKE)


@pytest.mark.run
def test_the_lock_of_a_dead_process_is_not_in_the_way(folder):
  code = (
    "import sys, time\n"
    "from etils import epath\n"
    "from sparse_regimes.runs import config\n"
    "from sparse_regimes.runs.workdir import open_workdir\n"
    "with open_workdir(epath.Path(sys.argv[1]), config.load('smoke')):\n"
    "  print('locked', flush=True)\n"
    "  time.sleep(60)\n"
  )
  with subprocess.Popen(
    [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
  ) as process:
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(InputError, match=f"process {process.pid}"):
      check_workdir(folder, SMOKE)
    process.send_signal(signal.SIGKILL)
  check_workdir(folder, SMOKE)


def test_fresh_folders_differ(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  first = fresh_workdir("smoke")
  first.mkdir(parents=True)
  second = fresh_workdir("smoke")
  assert first != second
  assert first.parent.name == "runs"


def test_a_free_folder_is_beside_the_one_that_is_taken(folder):
  taken = folder / "run"
  assert free_workdir(taken) == taken
  for name in ("run", "run-2"):
    (folder / name).mkdir()
  assert free_workdir(taken) == folder / "run-3"
