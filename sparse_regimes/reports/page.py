"""Self-contained HTML pages: text, tables and figures, nothing fetched."""

import base64
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2


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
  """Text as it was typed."""

  text: str
  kind: str = "pre"


Block = Text | Table | Pictures | Pre


def render(
  title: str, subtitle: str, sections: Mapping[str, Sequence[Block]]
) -> str:
  """A page with a heading for every section that has something in it.

  All text is escaped.

  Example:
    >>> "&lt;b&gt;" in render("<b>", "", {"Numbers": [Text("1 < 2")]})
    True
  """
  filled = {heading: blocks for heading, blocks in sections.items() if blocks}
  return _template().render(title=title, subtitle=subtitle, sections=filled)


@functools.cache
def _template() -> Any:
  environment = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  source = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
  return environment.from_string(source)
