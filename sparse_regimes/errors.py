"""The one exception a user's mistake becomes, and the checks that raise."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import Any

import jax


class InputError(ValueError):
  """Something the user gave is wrong.

  The message is one line: the field, what it got and what it takes.
  ``main`` prints it after ``error:`` and exits with code 2, without a
  traceback.

  Example:
    >>> from sparse_regimes.errors import InputError
    >>> raise InputError("train.epochs must be at least 1, got 0")
    Traceback (most recent call last):
    ...
    sparse_regimes.errors.InputError: train.epochs must be at least 1, got 0
  """


def one_of(name: str, value: Any, choices: Iterable[Any]) -> Any:
  """``value`` if it is one of ``choices``, else a ``ValueError`` listing them.

  Example:
    >>> from sparse_regimes.errors import one_of
    >>> one_of("scope", "row", ("global", "channel"))
    Traceback (most recent call last):
    ...
    ValueError: scope must be one of global, channel, got 'row'
  """
  choices = tuple(choices)
  if value not in choices:
    raise ValueError(
      f"{name} must be one of {', '.join(map(str, choices))}, got"
      f" {value!r}{did_you_mean(value, choices)}"
    )
  return value


def did_you_mean(value: Any, choices: Iterable[Any]) -> str:
  """The end of a message about a name that is close to another, or nothing.

  Example:
    >>> from sparse_regimes.errors import did_you_mean
    >>> did_you_mean("sclae", ("scale", "bias"))
    "; did you mean 'scale'?"
  """
  close = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
  return f"; did you mean {close[0]!r}?" if close else ""


def in_range(
  name: str,
  value: Any,
  low: float,
  high: float = float("inf"),
  *,
  below: bool = False,
) -> Any:
  """``value`` if it lies in ``[low, high]`` (``[low, high)`` if ``below``).

  NaN and infinities lie nowhere. Otherwise a ``ValueError`` names the argument.
  An array has to lie there with every entry; what JAX traces is not known yet,
  and passes.

  Example:
    >>> from sparse_regimes.errors import in_range
    >>> in_range("keep_ratio", 1.5, 0, 1)
    Traceback (most recent call last):
    ...
    ValueError: keep_ratio must be in [0, 1], got 1.5
  """
  if isinstance(value, jax.core.Tracer):
    return value
  if getattr(value, "ndim", 0) or isinstance(value, (list, tuple)):
    for entry in value:
      in_range(name, entry, low, high, below=below)
    return value
  unbounded = high == float("inf")
  if low <= value < high or (value == high and not below and not unbounded):
    return value
  if unbounded:
    takes = f"at least {low} and finite"
  else:
    takes = f"in [{low}, {high}{')' if below else ']'}"
  raise ValueError(f"{name} must be {takes}, got {value}")


@contextlib.contextmanager
def section_of(section: str) -> Iterator[None]:
  """Turns "keep_min must be ..." into an error about section.keep_min.

  Args:
    section: of the config.
  """
  try:
    yield
  except InputError:
    raise
  except ValueError as error:
    raise InputError(f"{section}.{error}") from error


def one_line(reason: object, limit: int = 2000) -> str:
  r"""An exception's text, or any other, as one line of bounded length.

  Example:
    >>> from sparse_regimes.errors import one_line
    >>> one_line(KeyError("id"))
    "KeyError: 'id'"
    >>> one_line("two  words\n")
    'two words'
  """
  text = str(reason)
  # Of other exceptions, the text alone may be no more than a key.
  if isinstance(reason, Exception) and not isinstance(reason, OSError):
    text = f"{type(reason).__name__}: {text}"
  text = " ".join(text.split())
  return text if len(text) <= limit else text[: limit - 3] + "..."
