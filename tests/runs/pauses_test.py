"""When a state is saved."""

import types

import pytest

from sparse_regimes.runs import config as configs
from sparse_regimes.runs.journal import Journal
from sparse_regimes.runs.pauses import Pauses


@pytest.mark.parametrize(
  ("every", "saved"), [(2, [1, 2, 4, 5]), (3, [1, 3, 5]), (0, [1, 5])]
)
def test_epochs_are_saved_as_the_config_says_and_the_best_and_last(
  every, saved
):
  config = configs.load("smoke", [f"checkpoint.every_epochs={every}"])
  numbers: list[int] = []
  journal = Journal()
  checkpoints = types.SimpleNamespace(
    save=lambda state, journal: numbers.append(len(journal.records))
  )
  stop = types.SimpleNamespace(requested=None)
  pauses = Pauses(config, checkpoints, journal, stop)
  for epoch in range(1, 6):
    # The first is the best.
    journal.records.append({"epoch": epoch, "test_dense_accuracy": 1 / epoch})
    pauses.end_epoch(None, is_last=epoch == 5)
  assert numbers == saved
