"""Text by the name that a config gives it, as tokens on disk or in memory."""

import codecs
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparse_regimes.data import text_sets
from sparse_regimes.data.streaming import is_streamed
from sparse_regimes.errors import (
  InputError,
  did_you_mean,
  in_range,
  one_line,
  one_of,
)
from sparse_regimes.files import expanded

DESCRIBED = {
  "shakespeare": "eight tragedies, 1.1 MB, which come with the package",
  "shakespeare:BYTES": "so much of their beginning",
  "text:PATH": "any UTF-8 file, or a folder of *.txt",
  "tfds:NAME": "text that tensorflow-datasets has prepared",
}
LEVELS = ("character", "byte")
# Of a text without a test split the end is held out.
HELD_OUT = 0.1
_PLAYS = Path(__file__).parent / "shakespeare" / "plays.txt"
_PIECE = 1 << 22


class Text(NamedTuple):
  """Tokens, and what they stand for.

  Attributes:
    train: uint8 or int32 ``[n]``; of a long text it lies on disk.
    test: likewise.
    vocabulary: the characters by their number; empty where tokens are bytes.
    bytes_per_token: of the test text, in UTF-8.
    source: where it comes from, for people.
    on_disk: whether its bytes are read as they are wanted.
  """

  train: Any
  test: Any
  vocabulary: str
  bytes_per_token: float
  source: str
  on_disk: bool = False

  @property
  def num_tokens(self) -> int:
    """How many different tokens there are."""
    return len(self.vocabulary) or 256


def check_name(name: str) -> None:
  """Raises a ``ValueError`` for what is no text's name."""
  kind, colon, rest = name.partition(":")
  if name == "shakespeare" or (colon and rest and kind in ("text", "tfds")):
    return
  if kind == "shakespeare" and rest.isdecimal():
    in_range(f"name {name}: the bytes", int(rest), 1, _PLAYS.stat().st_size)
    return
  raise ValueError(
    f"name must be one of {', '.join(DESCRIBED)}, got {name!r}"
    f"{did_you_mean(name, ('shakespeare',))}"
  )


def load(
  name: str,
  data_dir: str = "",
  *,
  level: str = "character",
  stream: str = "auto",
  vocabulary: str = "",
) -> Text:
  """Reads a text.

  Args:
    name: one of ``DESCRIBED``.
    data_dir: where ``tfds:`` looks first.
    level: ``character``: a token for each that there is; ``byte``: of UTF-8.
    stream: ``never``, ``always`` or ``auto`` (above 2 GiB): whether the text
      stays on disk, of which bytes are read as they are wanted.
    vocabulary: the characters by their number, where a run has them already.

  Raises:
    InputError: naming ``data.name`` and what is wrong.
  """
  try:
    check_name(name)
    one_of("level", level, LEVELS)
    kind, _, rest = name.partition(":")
    if kind == "tfds":
      train, test, source = text_sets.load(rest, data_dir)
    else:
      files = [_PLAYS]
      if kind == "text":
        files = _files(Path(expanded(rest, "data.name")))
      whole = _Joined([np.memmap(f, np.uint8, "r") for f in files])
      if kind == "shakespeare" and rest:
        size = _whole_character(whole, int(rest))
        whole = _Joined([np.memmap(_PLAYS, np.uint8, "r")[:size]])
      on_disk = is_streamed(stream, whole)
      if on_disk and level == "character":
        raise ValueError(
          "a text that is read as it is wanted has tokens of bytes: set"
          f" task.level=byte, got {level}"
        )
      for file in files:
        _check_utf8(file)
      source = "the package" if kind == "shakespeare" else str(files[0].parent)
      end = _whole_character(whole, math.floor(len(whole) * (1 - HELD_OUT)))
      if on_disk:
        parts = whole.part(0, end), whole.part(end)
        return Text(*parts, "", 1.0, source, on_disk=True)
      every = b"".join(file.read_bytes() for file in files)[: len(whole)]
      train, test = every[:end], every[end:]
    return _tokens(train, test, level, vocabulary, source)
  except InputError:
    raise
  # Files of others, in a library of others: any exception may come.
  except Exception as error:
    said = str(error) if type(error) is ValueError else one_line(error)
    raise InputError(f"data.name {name}: {said}") from error


def encode(text: str, vocabulary: str) -> np.ndarray:
  """A text's tokens, int32.

  Args:
    text: anything.
    vocabulary: of :class:`Text`.

  Raises:
    ValueError: naming the first character that the vocabulary has not.

  Example:
    >>> from sparse_regimes.data.text import encode
    >>> encode("abba", "abc"), encode("é", "")
    (array([0, 1, 1, 0], dtype=int32), array([195, 169], dtype=int32))
  """
  if not vocabulary:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)
  numbers = {character: i for i, character in enumerate(vocabulary)}
  for place, character in enumerate(text):
    if character not in numbers:
      raise ValueError(
        f"{character!r} (character {place + 1}) is not among the"
        f" {len(vocabulary)} of the training text"
      )
  return np.array([numbers[c] for c in text], np.int32)


def decode(tokens: Sequence[int] | np.ndarray, vocabulary: str) -> str:
  """The text of some tokens; bytes that are no UTF-8 become U+FFFD.

  Example:
    >>> from sparse_regimes.data.text import decode
    >>> decode([2, 0, 1], "abc")
    'cab'
  """
  if vocabulary:
    return "".join(vocabulary[int(t)] for t in tokens)
  return bytes(int(t) for t in tokens).decode(errors="replace")


class Windows:
  """Parts of a text as an array ``[n, length]``; an index reads what it names.

  Args:
    tokens: the text.
    length: of a window.
    starts: where each begins, int ``[n]``.

  Example:
    >>> import numpy as np
    >>> from sparse_regimes.data.text import Windows
    >>> windows = Windows(np.arange(10), length=4, starts=np.array([0, 3, 6]))
    >>> windows.shape, windows[np.array([0, 2])]
    ((3, 4), array([[0, 1, 2, 3],
           [6, 7, 8, 9]]))
  """

  ndim = 2

  def __init__(self, tokens: Any, length: int, starts: np.ndarray):
    self._tokens, self._starts = tokens, starts
    self.dtype = tokens.dtype
    self.shape = (len(starts), length)

  def __len__(self) -> int:
    return self.shape[0]

  def first(self, number: int) -> "Windows":
    """The first of them, or all."""
    return Windows(self._tokens, self.shape[1], self._starts[:number])

  def __getitem__(self, index: Any) -> Any:
    """Those of a slice or of an array of indices, in memory."""
    starts, length = self._starts[index], self.shape[1]
    if isinstance(self._tokens, np.ndarray):
      whole = np.lib.stride_tricks.sliding_window_view(self._tokens, length)
      return whole[starts]
    return self._tokens[np.asarray(starts)[..., None] + np.arange(length)]


def one_after_another(tokens: Any, length: int, stride: int) -> Windows:
  """As many windows as there are, ``stride`` from each to the next."""
  number = max(0, (len(tokens) - length) // stride + 1)
  return Windows(tokens, length, stride * np.arange(number))


class _Joined:
  """Files one after another, as an array of their bytes."""

  dtype = np.dtype(np.uint8)

  def __init__(self, files: list[np.ndarray], start: int = 0, end: int = -1):
    self._files = files
    self._ends = np.cumsum([len(file) for file in files])
    self._start = start
    self._end = end if end >= 0 else int(self._ends[-1])
    self.shape = (self._end - start,)

  def __len__(self) -> int:
    return self.shape[0]

  def part(self, start: int, end: int = -1) -> "_Joined":
    """From one place of it to another."""
    last = self._end if end < 0 else self._start + end
    return _Joined(self._files, self._start + start, last)

  def __getitem__(self, places: np.ndarray) -> np.ndarray:
    places = np.asarray(places) + self._start
    number = np.searchsorted(self._ends, places, side="right")
    found = np.empty(places.shape, np.uint8)
    for i in np.unique(number):
      first = self._ends[i] - len(self._files[i])
      found[number == i] = self._files[i][places[number == i] - first]
    return found


def _files(path: Path) -> list[Path]:
  if path.is_dir():
    found = (f for f in path.rglob("*.txt") if f.is_file())
    files = sorted(f for f in found if f.stat().st_size)
    if not files:
      raise ValueError(f"{path} has no *.txt with anything in it")
    return files
  if not path.is_file():
    raise ValueError(f"{path} is not there")
  if not path.stat().st_size:
    raise ValueError(f"{path} is empty")
  return [path]


def _check_utf8(path: Path) -> None:
  decoder = codecs.getincrementaldecoder("utf-8")()
  done = 0
  with path.open("rb") as file:
    while True:
      piece = file.read(_PIECE)
      # What the decoder holds back is the beginning of a character.
      held = len(decoder.getstate()[0])
      try:
        decoder.decode(piece, final=not piece)
      except UnicodeDecodeError as error:
        place = done - held + error.start
        raise ValueError(
          f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at"
          f" offset {place:,}; save it as UTF-8"
        ) from None
      done += len(piece)
      if not piece:
        return


def _whole_character(whole: _Joined, place: int) -> int:
  """The next place at which a character begins."""
  while place < len(whole) and whole[np.array([place])][0] & 0xC0 == 0x80:
    place += 1
  return place


def _tokens(
  train: bytes, test: bytes, level: str, vocabulary: str, source: str
) -> Text:
  if level == "byte":
    first, second = (np.frombuffer(part, np.uint8) for part in (train, test))
    return Text(first, second, "", 1.0, source)
  parts = train.decode(), test.decode()
  vocabulary = vocabulary or "".join(sorted({*parts[0], *parts[1]}))
  kind = np.uint8 if len(vocabulary) <= 256 else np.int32
  numbers = [_numbers(part, vocabulary).astype(kind) for part in parts]
  each = len(test) / max(1, len(parts[1]))
  return Text(numbers[0], numbers[1], vocabulary, each, source)


def _numbers(text: str, vocabulary: str) -> np.ndarray:
  """As :func:`encode`, of a long text whose characters are all known."""
  codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
  # A vocabulary is sorted.
  known = np.frombuffer(vocabulary.encode("utf-32-le"), np.uint32)
  numbers = np.searchsorted(known, codes)
  strange = known[np.minimum(numbers, len(known) - 1)] != codes
  if np.any(strange):
    place = int(np.argmax(strange))
    raise ValueError(
      f"{text[place]!r} (character {place + 1}) is not among the"
      f" {len(vocabulary)} that the run knows"
    )
  return numbers
