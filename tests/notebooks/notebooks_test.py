"""Every notebook runs from its first cell to its last."""

import json
import os
import subprocess
import sys

import pytest
from running import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def cells(path, kind):
  notebook = json.loads(path.read_text())
  assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
  return [
    "".join(cell["source"])
    for cell in notebook["cells"]
    if cell["cell_type"] == kind
  ]


def test_they_are_there():
  names = {path.stem for path in NOTEBOOKS}
  assert names == {"first_steps", "your_own_network", "reading_a_run"}


@pytest.mark.run
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
  program = tmp_path / "cells.py"
  program.write_text("\n\n".join(cells(path, "code")))
  # A process of its own, as in Jupyter: one device, no settings of the tests.
  done = subprocess.run(
    [sys.executable, str(program)],
    capture_output=True,
    text=True,
    check=False,
    cwd=tmp_path,
    env=os.environ | {"MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"},
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_opens_on_colab_as_it_is(path):
  first, *_ = cells(path, "code")
  assert '"install"' in first
  assert 'find_spec("sparse_regimes") is None' in first
  for code in cells(path, "code"):
    # Python alone: it also runs where there is no Jupyter.
    compile(code, path.name, "exec")
  # Nobody's outputs, nobody's paths.
  for cell in json.loads(path.read_text())["cells"]:
    assert cell.get("outputs", []) == []
    assert cell.get("execution_count") is None
