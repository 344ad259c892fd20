"""Files outside ``docs/`` on the site.

The line ``<!-- page: ../CHANGELOG.md -->`` stands for that file. Links to the
file lead to the page that has the line, from wherever they stand. Links to
modules of the package lead to their highlighted source; links to folders, which
a site cannot show, become plain text. Other files are copied beside the pages.
"""

import functools
import json
import os
import re
from pathlib import Path

_STANDS_FOR = re.compile(r"<!-- page: (\S+) -->")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_IMAGE = re.compile(r"(!\[[^\]]*\])\((?![a-z]+:)([^)\s]+)\)")


@functools.cache
def pages_of(docs: Path) -> dict[Path, Path]:
  """The page of each file outside, by both their paths."""
  # The first page says in short what README.md says.
  pages = {docs.parent / "README.md": docs / "index.md"}
  for page in docs.rglob("*.md"):
    for target in _STANDS_FOR.findall(page.read_text()):
      pages[(page.parent / target).resolve()] = page
  return pages


@functools.cache
def _documented(docs: Path) -> set[str]:
  """The modules and packages whose names the reference has."""
  pages = (page.read_text() for page in (docs / "api").glob("*.rst"))
  names = {n for p in pages for n in re.findall(r"automodule:: (\S+)", p)}
  return names - {"sparse_regimes"}


def rewritten(text: str, source: Path, page: Path, docs: Path) -> str:
  """Text of ``source`` with links that lead on from ``page``."""

  def resolved(target: str) -> Path:
    path = (source.parent / target).resolve()
    return pages_of(docs).get(path, path)

  def relative(path: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()

  def link(match: re.Match) -> str:
    words, target, anchor = match.groups()
    path = resolved(target)
    if path.is_dir():
      return words
    module = ".".join(path.relative_to(docs.parent).with_suffix("").parts)
    # Of others Sphinx shows no source.
    if {module, module.rpartition(".")[0]} & _documented(docs):
      shown = docs / "_modules" / path.relative_to(docs.parent)
      words = re.sub(r"`([^`]+)`", r"<code>\1</code>", words)
      return f'<a href="{relative(shown.with_suffix(".html"))}">{words}</a>'
    return f"[{words}]({relative(path)}{anchor or ''})"

  def image(match: re.Match) -> str:
    return f"{match[1]}({relative(resolved(match[2]))})"

  parts = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
  # Every other part is code, which has no links.
  parts[::2] = [_IMAGE.sub(image, _LINK.sub(link, p)) for p in parts[::2]]
  return "".join(parts)


def _text_of(file: Path) -> str:
  """A page's Markdown; of a notebook its words and its code."""
  if file.suffix != ".ipynb":
    return file.read_text()
  cells = []
  for cell in json.loads(file.read_text())["cells"]:
    text = "".join(cell["source"])
    if cell["cell_type"] == "code":
      text = f"```python\n{text}\n```"
    cells.append(text)
  return "\n\n".join(cells)


def _read(app, docname, source):
  page, docs = Path(app.env.doc2path(docname)), Path(app.srcdir)
  if page.suffix != ".md":
    return

  def stand_in(match: re.Match) -> str:
    file = (page.parent / match[1]).resolve()
    app.env.note_dependency(str(file), docname=docname)
    return rewritten(_text_of(file), file, page, docs)

  text = rewritten(source[0], page, page, docs)
  source[0] = _STANDS_FOR.sub(stand_in, text)


def setup(app):
  """What Sphinx calls."""
  app.connect("source-read", _read)
  return {"version": "1", "parallel_read_safe": True}
