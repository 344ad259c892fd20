"""The last and the best state of a run, kept by orbax."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from sparse_regimes.errors import InputError, one_of
from sparse_regimes.state import TrainState

# What the best checkpoint is best at.
BEST_METRIC = "test_dense_accuracy"


def make_manager(workdir: Path) -> ocp.CheckpointManager:
  """A manager of ``workdir/checkpoints`` that keeps the last and the best.

  Saves run in the background and appear by an atomic rename. Steps are counted
  in epochs. Use it as a context manager, so that a save is waited for.
  """

  def metric(metrics):
    return metrics[BEST_METRIC]

  return ocp.CheckpointManager(
    (workdir / "checkpoints").absolute(),
    options=ocp.CheckpointManagerOptions(
      best_fn=metric,
      preservation_policy=checkpoint_managers.AnyPreservationPolicy(
        [
          checkpoint_managers.LatestN(1),
          checkpoint_managers.BestN(get_metric_fn=metric, n=1),
        ]
      ),
    ),
  )


def save(
  manager: ocp.CheckpointManager,
  epoch: int,
  state: TrainState,
  record: dict[str, float | None],
) -> None:
  """Starts saving the state after ``epoch`` with that epoch's metrics."""
  manager.save(
    epoch,
    args=ocp.args.StandardSave(state),
    metrics={BEST_METRIC: record[BEST_METRIC]},
  )


def check_checkpoint(workdir: Path, which: str) -> None:
  """Raises an ``InputError`` unless the run may have such a checkpoint."""
  try:
    one_of("--checkpoint", which, ("best", "last"))
  except ValueError as error:
    raise InputError(str(error)) from error
  if not (workdir / "checkpoints").is_dir():
    raise InputError(
      f"--workdir must hold a run with checkpoints, got {workdir}"
    )


def restore(
  workdir: Path, which: str, template: TrainState
) -> tuple[int, TrainState]:
  """Reads a checkpoint of a run.

  Args:
    workdir: the run's folder.
    which: ``best`` (by dense test accuracy) or ``last``.
    template: a state of the checkpoint's shapes and dtypes, of arrays or of
      ``jax.ShapeDtypeStruct``.

  Returns:
    The epoch and the state, on the default device.

  Raises:
    InputError: if the run has no such checkpoint, or it cannot be read as one
      of this template.
  """
  check_checkpoint(workdir, which)
  with make_manager(workdir) as manager:
    epoch = manager.best_step() if which == "best" else manager.latest_step()
    if epoch is None:
      raise InputError(
        f"--workdir must hold a finished checkpoint, got {workdir}"
      )
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
      template,
    )
    try:
      restored = manager.restore(epoch, args=ocp.args.StandardRestore(shapes))
    except (ValueError, KeyError, TypeError, OSError) as error:
      reason = str(error).strip().partition("\n")[0][:200]
      raise InputError(
        f"--workdir {workdir}: checkpoint {epoch} is damaged or not of this"
        f" config ({reason})"
      ) from error
    return epoch, restored
