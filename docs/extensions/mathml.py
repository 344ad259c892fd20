"""Equations as MathML, which browsers show without scripts or a network."""

import html
import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import SphinxError
from sphinx.util.logging import getLogger

_log = getLogger(__name__)
# LaTeX that the converter does not know, and the same in what it knows.
_SAME = (("\\\n", "\\ "), ("\\arg\\", "\\mathrm{arg}\\,\\"), ("\\_", "_"))


def _mathml(latex: str, display: str, node: nodes.Node) -> str:
  for unknown, known in _SAME:
    latex = latex.replace(unknown, known)
  try:
    math = convert(latex, display=display)
    # A command or a column that it does not know it leaves as it is.
    left = re.search(r"\\[a-zA-Z]*|>&<", math)
    problem = left and f"{left[0]} is left over"
  except Exception as error:
    math, problem = f"<code>{html.escape(latex)}</code>", repr(error)
  if problem:
    _log.warning("equation %s: %s", latex, problem, location=node)
  return math


def _visit_inline(writer, node: nodes.math) -> None:
  writer.body.append(_mathml(node.astext(), "inline", node))
  raise nodes.SkipNode


def _visit_block(writer, node: nodes.math_block) -> None:
  latex = node.astext().strip()
  # Sphinx lets a block have rows without saying so.
  if "\\\\" in latex or "&" in latex:
    latex = rf"\begin{{split}}{latex}\end{{split}}"
  math = _mathml(latex, "block", node)
  writer.body.append(f'<div class="math-block">{math}</div>\n')
  raise nodes.SkipNode


def setup(app):
  """What Sphinx calls."""
  if app.config.html_math_renderer not in (None, "mathml"):
    raise SphinxError("this site shows equations as MathML")
  app.add_html_math_renderer(
    "mathml", (_visit_inline, None), (_visit_block, None)
  )
  return {"version": "1", "parallel_read_safe": True}
