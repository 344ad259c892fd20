import json
import math

import numpy as np
import pytest
from journals import full_journal, metrics, record

from sparse_regimes.runs.journal import (
  RECORD_NAMES,
  Journal,
  step_metrics,
)


def test_the_budget_s_moves_are_counted_once():
  journal = full_journal()
  budget = journal.budget
  assert (budget.compressions, budget.resets) == (2, 1)
  assert budget.lowest == pytest.approx(0.6)
  assert budget.steps == [1, 2, 3, 4]
  assert journal.step == 4


def test_of_sites_that_share_a_budget_rounding_is_no_move():
  journal = Journal()
  shares = [[0.5, 0.3], [0.4, 0.4000001], [0.2, 0.6], [0.2, 0.5], [1, 1]]
  journal.add_steps(metrics(shares))
  assert journal.budget.steps == [1, 4, 5]
  np.testing.assert_allclose(journal.budget.keep_ratios, [0.4, 0.35, 1])


def test_a_collapse_has_a_beginning_and_an_end():
  journal = Journal()
  for collapsed in (0, 1, 1, 0, 1):
    journal.add_steps(metrics([1.0], collapsed=collapsed))
  assert journal.collapses == [[2, 4], [5, None]]
  assert journal.collapsed
  assert full_journal().collapses == [[3, 4]]


def test_skipped_steps_are_counted_and_left_out_of_means():
  journal = full_journal()
  assert journal.skipped == 1
  assert journal.mean("loss") == 1.0
  empty = Journal()
  empty.add_steps(metrics([1.0], skipped=1.0, loss=np.nan))
  assert math.isnan(empty.mean("loss"))


def test_the_best_epoch_is_the_latest_of_equals():
  journal = Journal()
  assert journal.best is None
  for epoch, accuracy in enumerate((0.3, 0.5, 0.5, None), start=1):
    journal.end_epoch(record(epoch, accuracy))
  assert journal.best["epoch"] == 3


def test_json_and_back_is_the_same_to_the_last_bit():
  journal = full_journal()
  journal.epoch_steps["loss"][0] = float(np.float32(0.1))
  text = json.dumps(journal.to_json(), allow_nan=False)
  back = Journal.from_json(json.loads(text))
  np.testing.assert_equal(back.epoch_steps, journal.epoch_steps)
  assert back.to_json() == journal.to_json()
  assert list(back.records[0]) == list(RECORD_NAMES)
  assert back.details == journal.details
  assert back.budget == journal.budget


@pytest.mark.parametrize(
  "damage",
  [
    lambda content: [],
    lambda content: content | {"step": 5},
    lambda content: content | {"records": []},
    lambda content: content | {"more": 1},
    lambda content: content | {"budget": {"steps": [1], "keep_ratios": []}},
    lambda content: content | {"details": []},
    lambda content: content | {"collapses": [[1]]},
    lambda content: {k: v for k, v in content.items() if k != "step"},
    lambda content: content | {"checksum": 0},
  ],
)
def test_what_is_damaged_is_refused(damage):
  with pytest.raises(ValueError, match="the journal's"):
    Journal.from_json(damage(full_journal().to_json()))


def test_the_metrics_of_a_step_have_these_names():
  assert set(metrics([1.0])) == set(step_metrics())
