"""Whatever the user's machine is set to: a run works, or says what is wrong."""

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath
from journals import ARITHMETIC, journal_of
from running import ROOT, TINY_RUN, records_of, run

from sparse_regimes import files
from sparse_regimes.data import cifar10, tfds
from sparse_regimes.errors import InputError
from sparse_regimes.main import main
from sparse_regimes.reports import figures, pictures
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import workdir
from sparse_regimes.runs.summary import describe_summary
from sparse_regimes.runs.trace import Trace
from sparse_regimes.studies import arms as arms_and_seeds


@pytest.mark.parametrize("name", ["lr[0.1]", "a*", "b?"])
def test_a_path_that_checkpoints_cannot_have_is_refused(tmp_path, name):
  config = configs.load("smoke")
  for path in (tmp_path / name, tmp_path / name / "run"):
    with pytest.raises(InputError, match=r"must have none of \* \? \[ \] in"):
      workdir.check_workdir(epath.Path(path), config)
  assert not (tmp_path / name).exists()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_used_and_told(
  code, tmp_path, monkeypatch, capsys
):
  def flock(*_):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(files.fcntl, "flock", flock)
  folder = epath.Path(tmp_path) / "run"
  with workdir.open_workdir(folder, configs.load("smoke")):
    assert (folder / "config.json").exists()
  assert "cannot be locked" in capsys.readouterr().err


def test_another_trouble_with_a_lock_is_an_error(tmp_path, monkeypatch):
  def flock(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  monkeypatch.setattr(files.fcntl, "flock", flock)
  folder = epath.Path(tmp_path) / "run"
  with (
    pytest.raises(OSError, match="Input/output error"),
    workdir.open_workdir(folder, configs.load("smoke")),
  ):
    pass


def test_a_home_that_nobody_has_is_named(tmp_path, monkeypatch, capsys):
  config = f"--config={TINY_RUN}"
  arguments = [config, "--config.data.name=cifar10"]
  where = "~nosuchuser/x"
  code = main(
    [*arguments, f"--config.data.dir={where}", f"--workdir={tmp_path / 'run'}"]
  )
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "data.dir must be a folder that there is, got ~nosuchuser/x" in line
  assert main([config, f"--workdir={where}"]) == 2
  assert "nosuchuser" in capsys.readouterr().err
  # Nobody at all, as in a container.
  monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
  monkeypatch.setattr(
    Path, "expanduser", lambda self: (_ for _ in ()).throw(RuntimeError)
  )
  with pytest.raises(InputError, match=r"data\.dir must be a folder"):
    cifar10.default_dir()
  release = cifar10.CIFAR10
  with pytest.raises(tfds.AbsentError):
    tfds.read(tmp_path, release, print)


def test_the_next_command_can_be_pasted(tmp_path):
  summary = json.loads(
    (ROOT / "experiments/results/quickstart/summary.json").read_text()
  )
  text = describe_summary(summary | {"collapses": []}, epath.Path("my run's"))
  (line,) = (line for line in text.splitlines() if line.startswith("  next"))
  assert "--workdir=my run's" in shlex.split(line)


@pytest.mark.slow
def test_pictures_are_ours_whatever_matplotlib_is_told(tmp_path):
  journal = journal_of(3)
  trace = Trace.of(journal, ARITHMETIC)
  plain = pictures.png(figures.curves(journal.records, trace))
  from sparse_regimes.reports.pictures import matplotlib

  with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9}):
    told = pictures.png(figures.curves(journal.records, trace))
    assert matplotlib.rcParams["text.usetex"]
  assert told == plain


@pytest.mark.run
def test_a_notebook_s_backend_is_not_in_the_way():
  environment = os.environ | {"MPLBACKEND": "module://nowhere.backend_inline"}
  code = (
    "import os, sparse_regimes.reports.figures;"
    "print(os.environ['MPLBACKEND'], end='')"
  )
  studies = "from sparse_regimes.studies import compare, search_results; "
  for module in ("", studies):
    done = subprocess.run(
      [sys.executable, "-c", module + code],
      env=environment,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.stdout == environment["MPLBACKEND"], done.stderr


@pytest.mark.run
def test_a_run_without_compilation_is_refused(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "sparse_regimes.main", f"--config={TINY_RUN}"),
      f"--workdir={tmp_path / 'run'}",
    ],
    env=os.environ | {"JAX_DISABLE_JIT": "1"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert re.fullmatch(r"error: JAX_DISABLE_JIT must be off.*\n", done.stderr)


def test_arms_are_split_where_they_end(tmp_path):
  text = "smoke,smoke+optimizer.milestones=(1,2)+optimizer.learning_rate=1e+0"
  arms = arms_and_seeds.split_arms(text)
  assert len(arms) == 2
  runs = arms_and_seeds.make_runs(arms, [0], tmp_path, [])
  assert runs[1].load().optimizer.milestones == (1, 2)
  assert runs[1].load().optimizer.learning_rate == 1.0


@pytest.mark.run
def test_a_run_with_a_budget_for_each_site(tmp_path, capsys):
  """From the command line to the evaluation at its own budgets."""
  arguments = [
    *("--config.controller.name=constant", "--config.train.epochs=1"),
    "--config.controller.keep_ratio=(0.5,0.125)",
  ]
  folder = tmp_path / "run"
  run(folder, *arguments)
  (record,) = records_of(folder)
  assert record["keep_ratio"] == 0.3125
  trace = json.loads((folder / "trace.json").read_text())
  first, second = trace["epochs"][0]["test_sparse_sites"]
  assert second <= 0.125 < first <= 0.5
  ratios = "--keep_ratios=0.5/0.125,1"
  assert main(["--mode=eval", f"--workdir={folder}", ratios]) == 0
  rows = json.loads((folder / "sweep.json").read_text())["rows"]
  assert rows[0]["site_keep_ratio"] == [0.5, 0.125]
  assert rows[0]["accuracy"] == record["test_sparse_accuracy"]
  assert rows[0]["site_nonzero"] == pytest.approx([first, second])
  capsys.readouterr()
  ratios = "--keep_ratios=0/0/1"
  assert main(["--mode=eval", f"--workdir={folder}", ratios]) == 2
  assert "for each of 2 sites, got shape (3,)" in capsys.readouterr().err
  config = f"--config={TINY_RUN}"
  three = "--config.controller.keep_ratio=(0.5,0.5,0.5)"
  code = main([config, f"--workdir={tmp_path / 'other'}", arguments[0], three])
  assert code == 2
  message = "controller.keep_ratio must be a scalar or have an entry for each"
  assert message in capsys.readouterr().err
