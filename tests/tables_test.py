"""Tables on the pages are those of the records."""

import sys

import pytest
from running import ROOT

sys.path.insert(0, str(ROOT / "experiments"))

import tables

WITH_TABLES = [
  page for page in tables.pages() if "<!-- end -->" in page.read_text()
]


@pytest.mark.parametrize(
  "page", WITH_TABLES, ids=lambda p: p.parent.name + p.name
)
def test_they_are_those_of_the_records(page):
  text = page.read_text()
  assert tables.filled(text) == text


def test_each_is_on_a_page():
  marked = "".join(page.read_text() for page in WITH_TABLES)
  for name in tables.TABLES:
    # Crop and flip, and the CPU core's arms, have no control of their own.
    if name.startswith(("image_augmented", "text_cpu")) and name.endswith(
      "control"
    ):
      continue
    assert f"<!-- {name} -->" in marked, name


def test_a_changed_number_is_put_right():
  page = (ROOT / "docs" / "results.md").read_text()
  assert tables.filled(page.replace("0.5251 ±", "0.6 ±")) == page
