"""Data flows one way: a file imports only from rows above its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sparse_regimes"

# A Flax project imports the first seven rows, which know no disk and no config.
ROWS = [
  ["errors", "interrupts"],
  ["files", "tree", "references"],
  ["masks", "controllers", "data"],
  ["layers", "nnx"],
  ["training"],
  ["models", "analysis"],
  ["tasks"],
  ["runs"],
  ["reports"],
  ["commands"],
  ["studies"],
  ["main"],
  ["__main__"],
]
ROW = {room: i for i, rooms in enumerate(ROWS) for room in rooms}


def room_of(module):
  return module.split(".")[1] if "." in module else None


def test_every_file_has_a_row():
  rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py"}
  rooms |= {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
  assert rooms - {"__init__"} == set(ROW)


def test_imports_go_up():
  for path in PACKAGE.rglob("*.py"):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      modules = []
      if isinstance(node, ast.ImportFrom) and node.module:
        modules = [node.module]
        if node.module == "sparse_regimes":
          names = {alias.name for alias in node.names} - {"__version__"}
          modules = [f"sparse_regimes.{name}" for name in names]
      for module in modules:
        if not module.startswith("sparse_regimes"):
          continue
        other = room_of(module)
        assert other == room or ROW[other] < ROW[room], (path, module)


@pytest.mark.run
def test_who_imports_the_package_gets_no_machinery():
  code = "import sys, sparse_regimes, sparse_regimes.nnx; print(*sys.modules)"
  loaded = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  ).stdout.split()
  machinery = {
    *("orbax", "matplotlib", "tensorflow_datasets", "tensorboardX", "PIL"),
    *("tqdm", "jinja2", "ml_collections", "scipy", "optuna"),
  }
  assert "flax" in loaded
  assert not machinery & set(loaded)
