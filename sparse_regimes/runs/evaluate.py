"""Loss, accuracy and sparsity over a whole split, at any keep ratio."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from sparse_regimes.data.streaming import read_batches
from sparse_regimes.runs.mesh import over_batches, place
from sparse_regimes.tasks import length
from sparse_regimes.training.classification import Batch
from sparse_regimes.training.state import TrainState

# What a sum over examples is called as a mean over them.
_MEANS = {"correct": "accuracy"}


Batches = Any  # a sequence of batches, or what can be gone through like one


def make_batches(
  examples: Mapping[str, Any], batch_size: int, mesh: Mesh
) -> Batches:
  """A set on the devices in batches, every example once.

  The last batch is as short as it has to be, rather than padded: per-batch
  statistics stay exact. A batch size that divides the set compiles once.

  Args:
    examples: arrays ``[n, ...]`` by name, or what is indexed as they are; if
      one of them is no array, batches are read whenever they are wanted.
    batch_size: at least 1.
    mesh: a batch is split over its devices if they divide it.
  """
  streamed = ReadBatches(examples, batch_size, mesh)
  if all(isinstance(x, np.ndarray) for x in examples.values()):
    return [streamed.placed(streamed.slice(i)) for i in range(len(streamed))]
  return streamed


class ReadBatches:
  """Batches that are read ahead each time somebody goes through them.

  Args:
    examples: see :func:`make_batches`.
    batch_size: at least 1.
    mesh: of the run.
  """

  def __init__(self, examples: Mapping[str, Any], batch_size: int, mesh: Mesh):
    self._examples, self._size, self._mesh = examples, batch_size, mesh
    self._count = length(examples)

  def __len__(self) -> int:
    return -(-self._count // self._size)

  def __getitem__(self, number: int) -> Batch:
    return self.placed(self.slice(range(len(self))[number]))

  def __iter__(self) -> Iterator[Batch]:
    whole = self._count // self._size
    rows = np.arange(whole * self._size).reshape(whole, self._size)
    yield from map(self.placed, read_batches(self._examples, rows))
    if whole < len(self):
      yield self[whole]

  def slice(self, number: int) -> dict[str, np.ndarray]:
    """A batch in host memory."""
    start = number * self._size
    rows = slice(start, start + self._size)
    return {name: np.asarray(x[rows]) for name, x in self._examples.items()}

  def placed(self, batch: Mapping[str, np.ndarray]) -> Batch:
    """A batch on the devices."""
    sharding = over_batches(self._mesh, axis=0, size=length(batch))
    return {name: place(array, sharding) for name, array in batch.items()}


def evaluate(
  eval_step: Any,
  state: TrainState,
  batches: Batches,
  keep_ratio: ArrayLike,
  check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
  """Means over all examples of ``batches``.

  Args:
    eval_step: of :func:`sparse_regimes.make_eval_step`, or of a task.
    state: a state or variables.
    batches: of :func:`make_batches`.
    keep_ratio: real scalar, or one for each site.
    check: called between batches; may raise to give up.

  Returns:
    What is summed, over the count: ``loss`` (nats), ``accuracy`` or another
    metric, ``nonzero`` (fractions; the mean over sites), and ``sites``: the
    list of nonzero fractions at each.
  """
  sums: list[Any] = []
  for batch in batches:
    sums.append(eval_step(state, batch, keep_ratio))
    # A result is waited for when the next but one is on its way.
    if len(sums) > 2:
      sums[-3] = jax.device_get(sums[-3])
    check()
  sums = jax.device_get(sums)
  count = sum(s["count"].item() for s in sums)
  # Of a dict by site, in the order of its names.
  shares = [np.hstack(jax.tree.leaves(s["nonzero"])) for s in sums]
  nonzero = np.sum(shares, axis=0, dtype=np.float64)
  sites = np.atleast_1d(nonzero / count)
  means = {
    _MEANS.get(name, name): sum(s[name].item() for s in sums) / count
    for name in sums[0]
    if name not in ("count", "nonzero")
  }
  return {**means, "nonzero": float(np.mean(sites)), "sites": sites.tolist()}
