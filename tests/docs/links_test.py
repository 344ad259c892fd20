"""Every relative link of every document of the repository leads somewhere."""

import re
import subprocess

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


def test_links_lead_somewhere():
  broken = []
  for page in documents():
    if not page.exists():
      continue  # removed, and not yet committed
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text())):
      path = page.parent / target if target else page
      if not path.exists() or (anchor and anchor not in anchors(path)):
        broken.append((str(page.relative_to(ROOT)), target, anchor))
  assert not broken


def test_documents_are_found():
  names = {str(page.relative_to(ROOT)) for page in documents()}
  assert names >= {"README.md", "CONTRIBUTING.md", "docs/start.md"}
