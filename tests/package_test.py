"""The package as it is built, linted and typed."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sparse_regimes

ROOT = Path(__file__).parent.parent


def check(*command, **arguments):
  done = subprocess.run(
    [sys.executable, "-m", *command],
    capture_output=True,
    text=True,
    check=False,
    **({"cwd": ROOT} | arguments),
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.mark.run
def test_formatted():
  check("ruff", "format", "--check", ".")


@pytest.mark.run
def test_linted():
  check("ruff", "check", ".")


@pytest.mark.run
def test_typed():
  check("mypy")


def test_versions_agree():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  assert project["version"] == sparse_regimes.__version__
  citation = (ROOT / "CITATION.cff").read_text()
  assert f"version: {project['version']}\n" in citation
  assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.run
def test_a_wheel_runs_without_the_checkout(tmp_path):
  check(
    *("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
    *("--wheel-dir", str(tmp_path), str(ROOT)),
  )
  (wheel,) = tmp_path.glob("*.whl")
  site = tmp_path / "site"
  check(
    "pip", "install", "--quiet", "--no-deps", f"--target={site}", str(wheel)
  )
  program = (
    "import sys, sparse_regimes, sparse_regimes.main as m;"
    "assert 'site' in sparse_regimes.__file__, sparse_regimes.__file__;"
    "m.main(['list']);"
    "sys.exit(m.main(['--config=smoke', '--workdir=run',"
    # The one run here of a Wide ResNet.
    "'--config.train.epochs=1', '--config.data.num_train=256',"
    "'--config.eval.num_train=256']))"
  )
  done = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    check=False,
    cwd=tmp_path,
    env={"PYTHONPATH": str(site), "PATH": "", "JAX_PLATFORMS": "cpu"}
    | {n: x for n, x in os.environ.items() if n.startswith(("JAX_", "XLA_"))},
  )
  assert done.returncode == 0, done.stderr
  # Configs go by their names, and may use one another.
  assert "\n  wrn_strategy1 " in done.stdout
  assert (site / "bin" / "sparse-regimes").exists()
  assert (tmp_path / "run" / "curves.png").exists()
  (record,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  record = json.loads(record)
  assert record["step"] == 2
  assert 0 < record["train_loss"] < 4
