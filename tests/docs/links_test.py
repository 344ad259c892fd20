"""Every relative link of every document of the repository leads somewhere."""

import re
import subprocess

import pytest
from running import ROOT

LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]*)(?:#([^)\s]*))?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def documents():
  """All that git knows; of an unpacked archive all that lies there."""
  done = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    capture_output=True,
    text=True,
    check=False,
    cwd=ROOT,
  )
  if done.returncode == 0:
    return sorted({ROOT / name for name in done.stdout.split()})
  return sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
  )


def anchors(page):
  """What GitHub and the site call the headings of a page."""
  heads = re.findall(
    r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE
  )
  kept = (re.sub(r"[^\w\- ]", "", head).strip().lower() for head in heads)
  return {head.replace(" ", "-") for head in kept}


@pytest.mark.parametrize(
  "page", documents(), ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
  if not page.exists():
    return  # removed, and not yet committed
  for target, anchor in LINK.findall(FENCE.sub("", page.read_text())):
    path = page.parent / target if target else page
    assert path.exists(), target
    if anchor:
      assert anchor in anchors(path), f"{target}#{anchor}"
