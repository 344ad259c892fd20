import pytest

from sparse_regimes import config as configs
from sparse_regimes.errors import InputError
from sparse_regimes.workdir import check_workdir, create_workdir, fresh_workdir


@pytest.mark.parametrize(
  "name", ["config.json", "metrics.jsonl", "checkpoints"]
)
def test_a_folder_with_a_run_is_refused(tmp_path, name):
  check_workdir(tmp_path)
  (tmp_path / name).touch()
  with pytest.raises(InputError, match=f"holds another run \\({name}\\)"):
    check_workdir(tmp_path)


def test_other_files_are_no_run(tmp_path):
  (tmp_path / "notes.txt").touch()
  check_workdir(tmp_path)
  check_workdir(tmp_path / "new" / "deep")
  assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_is_no_folder(tmp_path):
  file = tmp_path / "file"
  file.touch()
  for path in (file, file / "below"):
    with pytest.raises(InputError, match="must be a folder"):
      check_workdir(path)
    with pytest.raises(InputError, match="--workdir must be"):
      create_workdir(path, configs.load("smoke"))


def test_of_two_runs_one_gets_the_folder(tmp_path):
  config = configs.load("smoke")
  create_workdir(tmp_path / "a", config)
  with pytest.raises(InputError, match="holds another run"):
    create_workdir(tmp_path / "a", config)


def test_fresh_folders_differ(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  first = fresh_workdir("smoke")
  first.mkdir(parents=True)
  second = fresh_workdir("smoke")
  assert first != second
  assert first.parent.name == "runs"
