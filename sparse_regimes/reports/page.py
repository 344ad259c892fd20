"""Self-contained HTML pages: text, tables and figures, nothing fetched."""

import base64
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from sparse_regimes.reports.drawings import Forest, OverRatios


class Text(NamedTuple):
  """A paragraph."""

  text: str
  kind: str = "text"


class Table(NamedTuple):
  """Rows below a header; numbers are given as text."""

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  kind: str = "table"


class Pictures(NamedTuple):
  """PNGs side by side where there is room, and what they show."""

  pngs: Sequence[bytes]
  caption: str
  kind: str = "pictures"

  @property
  def sources(self) -> list[str]:
    """The pictures as addresses that hold them."""
    encoded = [base64.b64encode(png).decode() for png in self.pngs]
    return [f"data:image/png;base64,{text}" for text in encoded]


class Pre(NamedTuple):
  """Text as it was typed; wrapped, its lines end where the page does."""

  text: str
  wrapped: bool = False
  kind: str = "pre"


class Arms(NamedTuple):
  """A table with a row an arm; on a phone, a card an arm.

  The first column has names; what a cell has in brackets goes on in its next
  line where there is no room.
  """

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  kind: str = "arms"


class Grouped(NamedTuple):
  """Rows of a few short cells, below the name of their group."""

  header: Sequence[str]
  groups: Mapping[str, Sequence[Sequence[str]]]
  kind: str = "grouped"


class Fold(NamedTuple):
  """What is shown to who asks for it."""

  summary: str
  blocks: Sequence[Any]
  kind: str = "fold"


Block = (
  Text | Table | Pictures | Pre | Arms | Grouped | Fold | Forest | OverRatios
)


def render(
  title: str,
  subtitle: str,
  sections: Mapping[str, Sequence[Block]],
  *,
  wide: bool = False,
) -> str:
  """A page with a heading for every section that has something in it.

  All text is escaped. It is light or dark as its reader's system is.

  Args:
    title: of the page.
    subtitle: a line below.
    sections: blocks by heading.
    wide: whether it may be wider than text is read well.

  Example:
    >>> "&lt;b&gt;" in render("<b>", "", {"Numbers": [Text("1 < 2")]})
    True
  """
  filled = {heading: blocks for heading, blocks in sections.items() if blocks}
  return _template().render(
    title=title,
    subtitle=subtitle,
    sections=filled,
    wide=wide,
    # Ours, and the only text that is not escaped.
    style=Markup(_read("page.css")),
  )


def _read(name: str) -> str:
  return Path(__file__).with_name(name).read_text(encoding="utf-8")


@functools.cache
def _template() -> Any:
  environment = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    loader=jinja2.FunctionLoader(_read),
  )
  return environment.get_template("page.html")
