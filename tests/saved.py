"""Checkpoints of runs that nobody trained."""

import functools

import jax
from journals import record
from tiny import TinyNet, tiny_state

from sparse_regimes import controllers
from sparse_regimes.runs.checkpoint import Checkpoints
from sparse_regimes.runs.journal import Journal
from sparse_regimes.training.optimizer import sgd


@functools.cache
def state_at(step):
  state = tiny_state(TinyNet(), sgd(0.1), controllers.strategy1())
  params = jax.tree.map(lambda x: x + 0.001 * step, state.params)
  return state.replace(step=state.step + step, params=params)


def journal_at(epoch, accuracies):
  journal = Journal(step=2 * epoch)
  for e in range(1, epoch + 1):
    journal.end_epoch(record(e, accuracies[e - 1]))
  return journal


def save_epochs(folder, accuracies, *, keep=1):
  """One checkpoint an epoch of two steps: their numbers are 3, 6, 9, ..."""
  with Checkpoints(folder, keep=keep) as checkpoints:
    for epoch in range(1, len(accuracies) + 1):
      checkpoints.save(state_at(2 * epoch), journal_at(epoch, accuracies))
