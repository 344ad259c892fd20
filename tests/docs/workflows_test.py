"""Workflows and forms are what their readers take; documents cite the code."""

import re

import pytest
import yaml
from running import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path):
  return yaml.safe_load(path.read_text())


def test_they_are_all_there():
  names = {path.stem for path in WORKFLOWS}
  assert names == {"tests", "docs", "wheel", "release"}
  assert {path.stem for path in FORMS} == {"bug", "config", "idea", "result"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_one(path):
  workflow = read(path)
  # YAML takes the word "on" for true.
  assert workflow["name"] == path.stem
  assert workflow[True]
  assert workflow["permissions"] == {"contents": "read"}
  made = (ROOT / "Makefile").read_text()
  for job in workflow["jobs"].values():
    if "uses" in job:
      assert (ROOT / job["uses"]).exists()
      continue
    assert job["runs-on"]
    for step in job["steps"]:
      assert len({"run", "uses"} & set(step)) == 1
      assert re.fullmatch(r"[\w/-]+@[\w/.]+", step.get("uses", "a/b@v1"))
      for target in re.findall(r"make ([\w-]+)", step.get("run", "")):
        assert f"\n{target}:" in made, target


def test_the_pythons_are_those_of_the_package():
  jobs = read(GITHUB / "workflows" / "tests.yml")["jobs"]
  pinned = jobs["pinned"]["strategy"]["matrix"]["python"]
  assert pinned == ["3.11", "3.12", "3.13"]
  assert set(jobs["newest"]["strategy"]["matrix"]["python"]) <= set(pinned)


def test_no_password_is_kept_for_a_release():
  text = (GITHUB / "workflows" / "release.yml").read_text()
  assert "secrets." not in text
  publish = yaml.safe_load(text)["jobs"]["publish"]
  assert publish["permissions"] == {"id-token": "write"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_something(path):
  form = read(path)
  if path.stem == "config":
    return
  assert form["name"]
  assert form["description"]
  ids = [field["id"] for field in form["body"]]
  assert len(set(ids)) == len(ids)
  for field in form["body"]:
    assert field["attributes"]["label"]


def test_the_citation_is_readable():
  citation = read(ROOT / "CITATION.cff")
  assert citation["cff-version"] == "1.2.0"
  for key in ("title", "version", "authors", "message", "license"):
    assert citation[key]


def test_examples_of_style_are_in_the_code():
  text = (ROOT / "CONTRIBUTING.md").read_text()
  cited = re.findall(
    r"```python\n(.*?)```\n\n<!-- from (\S+) -->", text, re.DOTALL
  )
  assert len(cited) == text.count("```python") == 3
  for block, name in cited:
    assert block in (ROOT / name).read_text(), name


def test_what_contributing_names_is_there():
  text = (ROOT / "CONTRIBUTING.md").read_text()
  for name in re.findall(r"`((?:sparse_regimes|tests|docs)/[\w/.]+)`", text):
    if name != "docs/_build/html":
      assert (ROOT / name).exists(), name
  for target in re.findall(r"`make ([\w-]+)`", text):
    assert f"\n{target}:" in (ROOT / "Makefile").read_text(), target
