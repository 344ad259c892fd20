"""The site as it is built: no warning, no broken link, no name left out."""

import html.parser
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import urllib.parse
import zlib
from pathlib import Path

import pytest
from docs_names import PUBLIC, public_names
from running import ROOT

pytestmark = [pytest.mark.run, pytest.mark.slow]


def build(folder):
  done = subprocess.run(
    [
      *(sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning"),
      *("--keep-going", "-d", str(folder.with_name("doctrees"))),
      *(str(ROOT / "docs"), str(folder)),
    ],
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def site(once):
  return once("site", build)


class Page(html.parser.HTMLParser):
  """What a page points to, and what in it may be pointed to."""

  def __init__(self, path):
    super().__init__()
    self.targets, self.loaded, self.ids = [], [], set()
    self.feed(path.read_text())

  def handle_starttag(self, tag, attributes):
    named = dict(attributes)
    self.ids.update(named[n] for n in ("id", "name") if named.get(n))
    for name in ("href", "src"):
      if named.get(name):
        self.targets.append(named[name])
        if tag in ("script", "img", "link") and named.get("rel") != "canonical":
          self.loaded.append(named[name])


def test_no_link_is_broken(site):
  pages = {path: Page(path) for path in site.rglob("*.html")}
  assert len(pages) > 30
  broken = []
  for path, page in pages.items():
    for target in page.targets:
      url = urllib.parse.urlsplit(target)
      if url.scheme or url.netloc or path.name == "genindex.html":
        continue
      there = path
      if url.path:
        there = Path(
          os.path.normpath(path.parent / urllib.parse.unquote(url.path))
        )
      if not there.exists():
        broken.append((path.name, target))
      elif there in pages:
        anchor = urllib.parse.unquote(url.fragment)
        if anchor and anchor not in pages[there].ids:
          broken.append((path.name, target))
  assert not broken


def test_it_is_read_without_a_network(site):
  for path in site.rglob("*.html"):
    for target in Page(path).loaded:
      assert not urllib.parse.urlsplit(target).netloc, (path.name, target)


def test_equations_are_drawn(site):
  page = (site / "api" / "controllers.html").read_text()
  assert page.count("<math ") > 50
  assert r"\frac" not in page


def test_every_page_is_there(site):
  for page in (ROOT / "docs").rglob("*.md"):
    there = site / page.relative_to(ROOT / "docs").with_suffix(".html")
    assert there.exists(), page


def test_it_can_be_searched(site):
  index = (site / "searchindex.js").read_text()
  for word in ("strategi", "budget", "cooldown"):
    assert f'"{word}"' in index or f"{word}:" in index, word


@pytest.fixture(scope="module")
def documented(site):
  """The full names of the package that the site documents."""
  _, _, _, _, lines = (site / "objects.inv").read_bytes().split(b"\n", 4)
  entries = map(str.split, zlib.decompress(lines).decode().splitlines())
  return {name for name, kind, *_ in entries if kind.startswith("py:")}


def names_of(value):
  """Its public names; a module is documented under its own."""
  if inspect.ismodule(value):
    return {value.__name__}
  return {
    f"{module}.{name}"
    for module in PUBLIC
    for name in public_names(module)
    if getattr(importlib.import_module(module), name) is value
  }


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(documented, module):
  for name in public_names(module):
    value = getattr(importlib.import_module(module), name)
    assert names_of(value) & documented, f"{module}.{name}"


def test_every_name_in_the_reference_is_one(documented):
  for name in documented:
    pkgutil.resolve_name(name)
