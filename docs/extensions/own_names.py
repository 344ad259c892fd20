r"""References of docstrings to names of this package.

A docstring says ``:func:`topk_mask``` where Python finds that name; Sphinx
looks for it in the module alone that it stands in. Here it is found wherever it
is documented, and a full name that is documented nowhere is a warning.
"""

import itertools
import re

from sphinx.util.logging import getLogger
from sphinx.util.nodes import make_refnode

_log = getLogger(__name__)


def _named(known, target):
  """The documented name that ``target`` stands for, if there is one."""
  ends = [n for n in known if n == target or n.endswith(f".{target}")]
  if not ends and target.startswith("sparse_regimes."):
    # sparse_regimes.masks.masking.f is also sparse_regimes.f.
    last = target.rpartition(".")[2]
    ends = [n for n in known if n.rpartition(".")[2] == last]
  # The name nearest to the root is the one that users import.
  return min(ends, key=lambda n: (n.count("."), n), default=None)


def _resolve(app, env, node, content):
  if node.get("refdomain") != "py":
    return None
  target, known = node["reftarget"], env.domains["py"].objects
  name = _named(known, target)
  if name is None:
    if target.startswith("sparse_regimes."):
      _log.warning("nothing documents %s", target, location=node)
    return None
  entry = known[name]
  return make_refnode(
    app.builder, node["refdoc"], entry.docname, entry.node_id, content, name
  )


def _back(app, pagename, templatename, context, doctree):
  """Mends the links of source pages to the reference.

  They take it that all names of a file are documented in the same module.
  """
  if not pagename.startswith("_modules/") or "body" not in context:
    return
  known = app.env.domains["py"].objects

  def link(match):
    name = _named(known, match[2])
    if name is None:
      return "<a"
    page = app.builder.get_relative_uri(pagename, known[name].docname)
    return f'{match[1]}"{page}#{known[name].node_id}"'

  pattern = r'(<a class="viewcode-back" href=)"[^"#]*#([^"]*)"'
  context["body"] = re.sub(pattern, link, context["body"])


def _skip(app, what, name, member, skip, options):
  """Leaves out what a named tuple says of its fields: their numbers."""
  said = getattr(member, "__doc__", None) or ""
  return True if said.startswith("Alias for field number") else None


def _source(app, what, name, member, options, lines):
  """Makes a paragraph of the lines that say where something comes from."""
  for i, line in enumerate(lines):
    if line.startswith("Source: "):
      rest = itertools.takewhile(str.strip, lines[i + 1 :])
      rest = [text.strip() for text in rest]
      words = line.removeprefix("Source: ")
      lines[i : i + 1 + len(rest)] = [f"*Source:* {words}", *rest]


def setup(app):
  """What Sphinx calls."""
  app.connect("html-page-context", _back)
  app.connect("autodoc-skip-member", _skip)
  app.connect("autodoc-process-docstring", _source)
  app.connect("missing-reference", _resolve)
  return {"version": "1", "parallel_read_safe": True}
