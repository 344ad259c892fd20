import json
import math

from journal_test import record

from sparse_regimes import config as configs
from sparse_regimes.journal import Journal
from sparse_regimes.summary import (
  describe_epoch,
  describe_summary,
  summarize,
)


def journal_of(*rates):
  journal = Journal(step=2 * len(rates))
  for epoch, rate in enumerate(rates, start=1):
    journal.end_epoch(record(epoch, 0.5) | {"images_per_second": rate})
  return journal


def test_an_epoch_of_which_only_the_evaluation_was_left_has_no_rate():
  config = configs.load("smoke")
  for rates, expected in (((None, 40.0, 20.0), 30.0), ((None,), 0.0)):
    result = summarize(config, journal_of(*rates))
    assert result["images_per_second"] == expected
    json.dumps(result, allow_nan=False)
    assert "finished in" in describe_summary(result, "runs/a")
  line = describe_epoch(record(1, 0.5) | {"images_per_second": None}, 3)
  assert "images/s" not in line
  assert "warning" not in line


def test_what_there_is_to_worry_about_is_said():
  broken = record(2, 0.5) | {"test_dense_loss": math.nan}
  text = describe_epoch(broken, 3, skipped=4)
  assert "\nwarning: 4 steps skipped so far" in text
  assert "not finite after epoch 2, step 4: test_dense_loss" in text
