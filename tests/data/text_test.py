import numpy as np
import pytest

from sparse_regimes.data import text
from sparse_regimes.errors import InputError


def test_the_plays():
  plays = text.load("shakespeare")
  assert len(plays.train) + len(plays.test) == 1_149_489
  assert abs(len(plays.test) / 1_149_489 - 0.1) < 1e-6
  assert (len(plays.vocabulary), plays.bytes_per_token) == (72, 1)
  assert text.decode(plays.train[:6], plays.vocabulary) == "ACT I."
  assert plays.train.dtype == np.uint8
  as_bytes = text.load("shakespeare", level="byte")
  assert (as_bytes.vocabulary, as_bytes.num_tokens) == ("", 256)
  assert bytes(as_bytes.train[:6]) == b"ACT I."


def test_a_file_and_a_folder(tmp_path):
  (tmp_path / "b.txt").write_text("déjà " * 20)
  (tmp_path / "a.txt").write_text("abc " * 25)
  (tmp_path / "not.md").write_text("#")
  read = text.load(f"text:{tmp_path}")
  whole = "abc " * 25 + "déjà " * 20
  told = text.decode([*read.train, *read.test], read.vocabulary)
  assert told == whole
  assert read.vocabulary == "".join(sorted(set(whole)))
  assert read.bytes_per_token == len(
    text.decode(read.test, read.vocabulary).encode()
  ) / len(read.test)
  only = text.load(f"text:{tmp_path / 'b.txt'}", level="byte")
  assert bytes([*only.train, *only.test]).decode() == "déjà " * 20


def test_on_disk_it_is_the_same(tmp_path):
  for name, content in (("a", "one é " * 50), ("b", "two ö " * 70)):
    (tmp_path / f"{name}.txt").write_text(content)
  name = f"text:{tmp_path}"
  here = text.load(name, level="byte", stream="never")
  there = text.load(name, level="byte", stream="always")
  for memory, disk in zip(here[:2], there[:2], strict=True):
    windows = [
      text.one_after_another(tokens, 9, 4) for tokens in (memory, disk)
    ]
    assert windows[0].shape == windows[1].shape
    np.testing.assert_array_equal(windows[0][:], windows[1][:])
    index = np.array([3, 0, len(windows[0]) - 1])
    np.testing.assert_array_equal(windows[0][index], windows[1][index])
  # No character is torn by what is held out.
  assert bytes(here.train).decode() + bytes(here.test).decode()


def test_a_vocabulary_that_is_known_is_kept():
  read = text.load(
    "shakespeare", vocabulary=text.load("shakespeare").vocabulary
  )
  assert len(read.vocabulary) == 72
  with pytest.raises(ValueError, match=r"'\$' \(character 3\) is not among"):
    text.encode("ab$", read.vocabulary)


def bad(tmp_path, content):
  path = tmp_path / "bad.txt"
  path.write_bytes(content)
  return f"text:{path}"


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"abc\xff", "is not UTF-8: byte 0xff at offset 3"),
    # Over the border of what is read at a time.
    (
      b"a" * ((1 << 22) - 1) + b"\xc3(",
      "is not UTF-8: byte 0xc3 at offset 4,194,303",
    ),
    (b"a" * 10 + b"\xc3", "is not UTF-8: byte 0xc3 at offset 10"),
    (b"", "is empty"),
  ],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
  with pytest.raises(InputError, match=message):
    text.load(bad(tmp_path, content))


def test_other_mistakes(tmp_path):
  for name, message in (
    ("shakespear", "did you mean 'shakespeare'"),
    ("text:", "must be one of"),
    (f"text:{tmp_path / 'none.txt'}", "is not there"),
    (f"text:{tmp_path}", r"has no \*.txt"),
    ("tfds:no_such_text", "no prepared no_such_text in"),
  ):
    with pytest.raises(InputError, match=message):
      text.load(name)
  with pytest.raises(InputError, match=r"task\.level=byte, got character"):
    text.load("shakespeare", stream="always")


def test_bytes_that_are_no_characters_are_shown():
  assert text.decode([255, 65], "") == "\ufffdA"


def test_the_beginning_of_the_plays():
  plays = text.load("shakespeare", level="byte")
  some = text.load("shakespeare:5000", level="byte")
  assert (len(some.train), len(some.test)) == (4500, 500)
  beginning = np.concatenate([some.train, some.test])
  np.testing.assert_array_equal(beginning, plays.train[:5000])


@pytest.mark.parametrize("number", ["0", "99999999", "x", "-1", "1.5"])
def test_a_beginning_that_is_none(number):
  with pytest.raises(InputError, match=r"^data.name shakespeare:"):
    text.load(f"shakespeare:{number}")
