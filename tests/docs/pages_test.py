"""What the site's own pages show: their code runs, their pictures are drawn."""

import contextlib
import importlib.util
import io
import re

import jax
import pytest
from docs_names import PUBLIC, public_names
from running import ROOT

DOCS = ROOT / "docs"


def run_blocks(page):
  """Runs the Python of a page from top to bottom; returns what it printed."""
  names: dict = {}
  out = io.StringIO()
  blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
  assert blocks
  # The tests promote dtypes strictly; a reader's session does not.
  with jax.numpy_dtype_promotion("standard"), contextlib.redirect_stdout(out):
    for block in blocks:
      exec(compile(block, page.name, "exec"), names)
  return out.getvalue()


def test_the_first_page():
  two, four = run_blocks(DOCS / "index.md").strip().splitlines()
  assert two.count("0. ") + two.count("0.]") == 6
  assert [x for x in ("2.1", "1.4") if x in two] == ["2.1", "1.4"]
  assert "1.1" in four


def test_concepts():
  lines = run_blocks(DOCS / "concepts.md").splitlines()
  ratios = [float(line.split()[1]) for line in lines]
  falls = [i for i in range(1, 16) if ratios[i] < ratios[i - 1]]
  resets = [i for i in range(1, 16) if ratios[i] > ratios[i - 1]]
  assert len(falls) > 5
  assert resets


@pytest.mark.slow
def test_recipes():
  assert "0.25" in run_blocks(DOCS / "recipes.md")


def drawings():
  spec = importlib.util.spec_from_file_location(
    "drawings", DOCS / "drawings" / "make.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.DRAWINGS


@pytest.mark.parametrize("name", sorted(drawings()))
def test_drawings_are_those_of_their_program(name):
  there = (DOCS / "drawings" / f"{name}.svg").read_text()
  assert there == drawings()[name](), "run python docs/drawings/make.py"
  assert f"drawings/{name}.svg" in (DOCS / "concepts.md").read_text()


def test_every_command_that_is_told_exists():
  pages = ("start", "recipes", "tasks", "concepts")
  text = "\n".join((DOCS / f"{page}.md").read_text() for page in pages)
  for name in re.findall(r"--config=(\w+)(?![\w/])", text):
    if len(name) > 1:  # A and B stand for any
      assert (ROOT / "configs" / f"{name}.py").exists(), name
  targets = (ROOT / "Makefile").read_text()
  for name in re.findall(r"^make ([\w-]+)", text, re.MULTILINE):
    assert f"\n{name}:" in targets, name


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_says_what_it_is(module):
  package = __import__(module, fromlist=["*"])
  assert package.__doc__
  for name in public_names(module):
    value = getattr(package, name)
    # Of a constant, Python keeps no docstring; the reference has it by hand.
    if not isinstance(value, (str, int, float, tuple, dict)):
      assert value.__doc__, f"{module}.{name}"
