"""Examples run as a reader copies them: into a session that has nothing yet."""

import doctest
import importlib
import inspect
import re

import jax
import pytest
from docs_names import PUBLIC, public_names
from running import ROOT

pytestmark = pytest.mark.slow

# Records that functions return: their examples are those of the functions.
SHOWN_BY = {
  "AllocationRow": "greedy_allocation",
  "Concentration": "concentration",
  "Layer": "probe",
  "Measures": "measure_layers",
}


def is_described(value):
  """Modules are not, and constants have no docstring of their own."""
  return callable(value) and not inspect.ismodule(value)


def public():
  """Functions and classes by the first of their public names."""
  found = {}
  for module in PUBLIC:
    for name in public_names(module):
      value = getattr(importlib.import_module(module), name)
      if is_described(value) and value not in found.values():
        found[f"{module}.{name}"] = value
  return found


def in_reference():
  """What else the modules have that the reference shows."""
  found = {}
  for page in sorted((ROOT / "docs" / "api").glob("*.rst")):
    for module in re.findall(r"automodule:: (\S+)", page.read_text()):
      for name, value in vars(importlib.import_module(module)).items():
        is_own = getattr(value, "__module__", None) == module
        if is_own and is_described(value) and not name.startswith("_"):
          found[f"{module}.{name}"] = value
  return found


def examples(name, value):
  """Of its docstring and of its methods'; each has a session of its own."""
  session = {"__name__": "__main__"}
  found = doctest.DocTestFinder().find(value, name, module=False, globs=session)
  return [docstring for docstring in found if docstring.examples]


VALUES = public()
EXAMPLES = {name: examples(name, value) for name, value in VALUES.items()}
EXAMPLES |= {
  name: examples(name, value)
  for name, value in in_reference().items()
  if value not in VALUES.values()
}


@pytest.mark.parametrize("name", VALUES)
def test_every_public_name_has_an_example(name):
  module, _, last = name.rpartition(".")
  name = f"{module}.{SHOWN_BY.get(last, last)}"
  assert name in [example.name for example in EXAMPLES[name]]


@pytest.mark.parametrize("name", [n for n in EXAMPLES if EXAMPLES[n]])
def test_an_example_needs_nothing_else(name):
  said = []
  # As it is where nobody has set it; tests have it stricter.
  with jax.numpy_dtype_promotion("standard"):
    for example in EXAMPLES[name]:
      doctest.DocTestRunner().run(example, out=said.append)
  assert not said, "".join(said)
