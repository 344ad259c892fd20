"""Logs of runs that nobody trained."""

import math

import numpy as np

from sparse_regimes.runs.journal import (
  RECORD_NAMES,
  SITE_NAMES,
  Journal,
  detail_names,
)

ARITHMETIC = (100, {"first": 40, "second": 20})


def metrics(keep_ratios, *, skipped=0.0, loss=1.0, collapsed=0.0):
  ones = np.ones(len(keep_ratios), np.float32)
  return {
    "loss": loss * ones,
    "accuracy": 0.5 * ones,
    "nonzero": 0.3 * ones,
    "keep_ratio": np.array(keep_ratios, np.float32),
    "skipped": skipped * ones,
    "collapsed": collapsed * ones,
  }


def record(epoch, accuracy):
  """What is measured in an epoch."""
  numbers = dict.fromkeys((*RECORD_NAMES, *detail_names()), 0.25)
  return (
    numbers
    | {name: [0.5, 0.1] for name in SITE_NAMES}
    | {
      "epoch": epoch,
      "step": 2 * epoch,
      "test_dense_accuracy": accuracy,
    }
  )


def full_journal():
  journal = Journal()
  journal.add_steps(metrics([1.0, 0.8]))
  journal.budget.see(3, float(np.float32(0.6)))
  journal.end_epoch(record(1, 0.4) | {"train_loss": math.nan})
  journal.add_steps(metrics([0.6], collapsed=1.0))
  journal.add_steps(metrics([1.0], skipped=1.0, loss=np.nan))
  return journal


def journal_of(num_epochs):
  journal = Journal()
  for epoch in range(1, num_epochs + 1):
    journal.add_steps(metrics([1.0, 0.8 / epoch]))
    journal.end_epoch(record(epoch, 0.5) | {"ema_accuracy": None})
  journal.collapses = [[1, 2], [3, None]]
  return journal
