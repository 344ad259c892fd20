"""Bytes that were spoilt on their way, for fuzzing."""

from hypothesis import strategies as st


def _flip(content, places, byte):
  spoilt = bytearray(content)
  for place in places:
    spoilt[int(place * len(spoilt))] ^= byte
  return bytes(spoilt)


def _cut(content, start, stop):
  first, last = sorted((int(start * len(content)), int(stop * len(content))))
  return content[:first] + content[last:]


def _insert(content, place, more):
  at = int(place * len(content))
  return content[:at] + more + content[at:]


PLACES = st.floats(0, 1, exclude_max=True)


def spoilt(content):
  """A strategy of what may become of ``content``, which is not empty."""
  return st.one_of(
    st.builds(
      _flip,
      st.just(content),
      st.lists(PLACES, min_size=1, max_size=8),
      st.integers(1, 255),
    ),
    st.builds(_cut, st.just(content), PLACES, PLACES),
    st.builds(_insert, st.just(content), PLACES, st.binary(max_size=64)),
    st.binary(max_size=256),
  )
