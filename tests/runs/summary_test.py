import json
import math

import pytest
from journals import record

from sparse_regimes.runs import config as configs
from sparse_regimes.runs.journal import Journal
from sparse_regimes.runs.summary import (
  describe_epoch,
  describe_summary,
  summarize,
)

ARITHMETIC = (100, {"first": 40, "second": 20})


def journal_of(*rates):
  journal = Journal(step=2 * len(rates))
  for epoch, rate in enumerate(rates, start=1):
    journal.end_epoch(record(epoch, 0.5) | {"images_per_second": rate})
  return journal


def test_an_epoch_of_which_only_the_evaluation_was_left_has_no_rate():
  config = configs.load("smoke")
  for rates, expected in (((None, 40.0, 20.0), 30.0), ((None,), None)):
    result = summarize(config, journal_of(*rates), ARITHMETIC)
    assert result["images_per_second"] == expected
    json.dumps(result, allow_nan=False)
    assert "finished in" in describe_summary(result, "runs/a")
  measured = record(1, 0.5) | {"images_per_second": None}
  line = describe_epoch(measured, Journal(), 3, ARITHMETIC)
  assert "images/s" not in line
  assert "warning" not in line


def test_what_there_is_to_worry_about_is_said():
  broken = record(2, 0.5) | {"test_dense_loss": math.nan}
  broken["test_dense_sites"] = [0.3, 0.0]
  journal = Journal(skipped=4, collapses=[[1, 2], [3, None]])
  text = describe_epoch(broken, journal, 3, ARITHMETIC)
  assert "\nwarning: 4 steps skipped so far" in text
  assert "not finite after epoch 2, step 4: test_dense_loss" in text
  assert "\nwarning: collapsed at step 3" in text
  assert "\nwarning: no activation is left at second" in text


def test_a_gain_is_never_shown_without_its_price():
  journal = journal_of(40.0)
  result = summarize(configs.load("smoke"), journal, ARITHMETIC)
  # Half of the first site's activations are zero, nine in ten of the second's.
  assert result["skippable_share_sparse"] == pytest.approx(0.38)
  assert result["final_train_dense_accuracy"] == 0.25
  assert result["collapses"] == []
  assert "collapses" not in describe_summary(result, "runs/a")
  for last, expected in ((4, "it recovered"), (None, "it never recovered")):
    journal.collapses = [[3, last]]
    result = summarize(configs.load("smoke"), journal, ARITHMETIC)
    assert expected in describe_summary(result, "runs/a")
