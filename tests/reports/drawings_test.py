"""Where the parts of a drawing lie, in percent."""

import math

import pytest

from sparse_regimes.reports import drawings


def forest(*intervals, less_is_better=False):
  rows = [
    drawings.Interval(f"arm{i}", *numbers, "")
    for i, numbers in enumerate(intervals)
  ]
  return drawings.forest(
    rows, title="", less_is_better=less_is_better, caption=""
  )


def test_a_row_lies_between_its_ends_and_beside_zero():
  laid = forest((0.1, -0.1, 0.3), (-0.2, -0.3, -0.1))
  first, second = laid.rows
  assert first["low"] < laid.zero < first["mean"] < first["high"]
  assert second["low"] < second["mean"] < second["high"] < laid.zero
  # One scale for all: as far from zero is as far.
  assert first["low"] == pytest.approx(second["high"])
  assert first["high"] - laid.zero == pytest.approx(laid.zero - second["low"])
  places = [row[end] for row in laid.rows for end in ("low", "high")]
  assert min(places) > 0
  assert max(places) < 100


def test_the_better_half_is_where_the_better_are():
  more, less = (
    forest((0.1, 0.0, 0.2), less_is_better=less) for less in (False, True)
  )
  assert more.better == (more.zero, 100 - more.zero)
  assert not more.is_left
  assert less.better == (0.0, less.zero)
  assert less.is_left


def test_ticks_lie_where_their_numbers_do():
  laid = forest((0.1, -0.1, 0.3), (-0.2, -0.3, -0.1))
  assert (laid.zero, "0.0") in [(x, text) for x, text in laid.ticks]
  first = laid.rows[0]
  scale = (first["high"] - laid.zero) / 0.3
  for place, text in laid.ticks:
    assert (place - laid.zero) / scale == pytest.approx(float(text), abs=1e-9)
  assert 3 <= len(laid.ticks) <= 6


def test_an_interval_of_two_pairs_does_not_crush_the_others():
  laid = forest((0.1, 0.05, 0.15), (0.2, -40.0, 40.4), (0.1, 0.04, 0.16))
  first, second, _ = laid.rows
  assert second["is_cut"] == (True, True)
  assert (second["low"], second["high"]) == (0, 100)
  assert first["is_cut"] == (False, False)
  assert first["high"] - first["low"] > 5


def test_intervals_that_are_all_wide_are_shown():
  # As wide as this about means that hardly differ is what few seeds give.
  laid = forest((-0.008, -0.043, 0.027), (-0.001, -0.029, 0.027))
  assert [row["is_cut"] for row in laid.rows] == [(False, False)] * 2
  assert laid.rows[0]["high"] - laid.rows[0]["low"] > 80


def test_one_pair_has_a_point_and_no_bar():
  laid = forest((0.1, math.nan, math.nan))
  assert laid.rows[0]["low"] == laid.rows[0]["high"] == laid.rows[0]["mean"]


def over(*lines, **more):
  return drawings.over_ratios(
    [drawings.Line(f"arm{i}", *line) for i, line in enumerate(lines)],
    label="test accuracy",
    caption="",
    **more,
  )


def test_ratios_lie_in_equal_factors():
  y = [0.2, 0.4, 0.5]
  laid = over(([0.01, 0.1, 1.0], y, y, y))
  assert [x for x, _ in laid.lines[0]["points"]] == pytest.approx([0, 50, 100])
  assert {text: x for x, text in laid.ratios} == pytest.approx(
    {"0.01": 0, "0.1": 50, "1": 100}
    | {"0.02": 50 * math.log10(2), "0.05": 50 * math.log10(5)}
    | {"0.2": 50 + 50 * math.log10(2), "0.5": 50 + 50 * math.log10(5)}
  )
  # Higher is further up, and nearly all of the room is used.
  down = [y for _, y in laid.lines[0]["points"]]
  assert down == sorted(down, reverse=True)
  assert max(down) - min(down) > 85
  assert laid.lines[0]["band"] == ""


def test_chance_has_a_place_among_them():
  y = [0.4, 0.5]
  laid = over(([0.1, 1.0], y, y, y), chance=0.1)
  assert laid.chance > max(y for _, y in laid.lines[0]["points"])
  assert laid.chance < 100
  assert over(([0.1, 1.0], y, y, y)).chance is None


def test_a_band_goes_there_and_back():
  laid = over(([0.1, 1.0], [0.4, 0.5], [0.3, 0.4], [0.5, 0.6]))
  corners = laid.lines[0]["band"].strip("MZ").split("L")
  places = [tuple(map(float, corner.split())) for corner in corners]
  assert [x for x, _ in places] == [0, 1000, 1000, 0]
  # The upper bound there, the lower back.
  assert places[0][1] < places[3][1]
  assert places[1][1] < places[2][1]


def test_what_is_not_known_is_a_gap():
  y = [0.2, math.nan, 0.4, 0.5]
  laid = over(([0.01, 0.1, 0.5, 1.0], y, y, y))
  assert laid.lines[0]["curve"].count("M") == 2
  assert len(laid.lines[0]["points"]) == 3
  assert "nan" not in laid.lines[0]["curve"]


def test_no_two_of_many_lines_look_alike():
  line = ((0.1, 1.0), (0.5, 0.6), (0.4, 0.5), (0.6, 0.7))
  laid = over(*[line] * 20)
  looks = {(drawn["style"], drawn["marker"]) for drawn in laid.lines}
  assert len(looks) == 20
