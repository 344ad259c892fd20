"""Saved states of a run, kept by orbax: the last few and the best."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from etils import epath

from sparse_regimes.errors import InputError
from sparse_regimes.runs.digest import digest
from sparse_regimes.runs.journal import MAX_BYTES, Journal, Record
from sparse_regimes.runs.processes import any_of_all, is_first, on_first
from sparse_regimes.training.state import TrainState

FOLDER = "checkpoints"
# Where checkpoints go that could not be read.
DAMAGED = "damaged_checkpoints"
_UNFINISHED = "orbax-checkpoint-tmp"


class DamagedError(Exception):
  """A checkpoint that is not what was saved; the message says in what."""


# A read that failed on storage far away may take its time.
_SECONDS_TO_END = 30.0


_FIELDS = (
  *("step", "params", "batch_stats", "opt_state", "controller_state", "rng"),
)


class Checkpoints:
  """The checkpoints of a run that trains.

  Saves run in the background and appear by an atomic rename. All processes of
  a run take part. Use it as a context manager, so that a save is waited for.

  Args:
    workdir: the run's folder.
    keep: how many of the latest to keep, besides the best.
  """

  def __init__(self, workdir: epath.Path, *, keep: int):
    self._workdir = workdir
    self._best: int | None = None
    self._failed = False
    self._policy = _LatestAndBest(keep, lambda: self._best)

  def __enter__(self) -> Self:
    # Making a manager clears them away.
    self._unfinished = on_first(lambda: _unfinished(self._workdir))
    self._manager = make_manager(self._workdir, policy=self._policy)
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
  ) -> None:
    try:
      self._manager.close()
    except Exception as close_error:
      failure = self._failure(close_error)
      if error is None:
        raise failure from close_error
    finally:
      if self._failed and is_first():
        # Where a disk is full, half a checkpoint is in everybody's way.
        for name in _unfinished(self._workdir):
          (self._workdir / FOLDER / name).rmtree(missing_ok=True)

  def save(self, state: TrainState, journal: Journal) -> None:
    """Starts saving a state and what is known up to it.

    Raises:
      OSError: if it, or the save before it, could not be written; the ones
        before are intact.
    """
    self._best = number_of(journal.best)
    content = journal.to_json() | {"digest": digest(state)}
    try:
      self._manager.save(
        _number(journal.step, len(journal.records)),
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(_on_disk(state)),
          journal=ocp.args.JsonSave(content),
        ),
      )
    except Exception as error:
      raise self._failure(error) from error

  def check(self) -> None:
    """Raises the ``OSError`` of a save that failed in the background."""
    try:
      self._manager.check_for_errors()
    except Exception as error:
      raise self._failure(error) from error

  def wait(self) -> None:
    """Returns when what was saved is there; raises like :meth:`check`."""
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._failure(error) from error

  def restore_latest(
    self, template: TrainState, log: Callable[[str], None]
  ) -> tuple[TrainState, Journal] | None:
    """The newest checkpoint that can be read; newer ones are set aside.

    Args:
      template: shapes, dtypes and shardings, ``jax.ShapeDtypeStruct``.
      log: told what was skipped and why.

    Returns:
      None if there is no checkpoint yet.

    Raises:
      InputError: if there are checkpoints and none can be read.
    """
    for name in self._unfinished:
      log(f"checkpoint  {name} was not finished: skipped")
    damaged: dict[int, str] = {}
    for checkpoint in sorted(self._manager.all_steps(), reverse=True):
      reason = None
      try:
        restored = read(self._manager, checkpoint, template)
      except DamagedError as error:
        reason = str(error)
      # All take the same one.
      if any(any_of_all(reason is not None)):
        damaged[checkpoint] = reason or "on another process"
        log(f"checkpoint  {checkpoint} is damaged: skipped ({reason})")
        continue
      if damaged:
        on_first(lambda: _set_aside(self._workdir, damaged))
        self._manager.reload()
        log(f"checkpoint  what was damaged is now in {DAMAGED}/")
      return restored
    if damaged:
      raise InputError(
        f"--workdir must hold a checkpoint that can be read, got"
        f" {self._workdir}, where none can ({next(iter(damaged.values()))});"
        " --force_new starts afresh in a new folder"
      )
    return None

  def _failure(self, error: Exception) -> OSError:
    self._failed = True
    cause = "" if jax.process_count() == 1 else ", or another process ended"
    return OSError(
      f"a checkpoint could not be saved below {self._workdir / FOLDER}{cause};"
      f" the ones before it are intact ({_reason(error)})"
    )


def has_checkpoints(workdir: epath.Path) -> bool:
  """Whether there is anything to go on from, good or not."""
  folder = workdir / FOLDER
  return folder.is_dir() and any(p.name.isdigit() for p in folder.iterdir())


def _number(step: int, num_evaluated: int) -> int:
  """A checkpoint's name: it grows with each step and each evaluation."""
  return step + num_evaluated


def number_of(record: Record | None) -> int | None:
  """The checkpoint that was saved with a record."""
  return None if record is None else _number(record["step"], record["epoch"])


class _LatestAndBest:
  """What orbax keeps: the last few checkpoints and the best one."""

  def __init__(self, keep: int, best: Callable[[], int | None]):
    self._keep, self._best = keep, best

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> Sequence[bool]:
    del context
    first_kept = len(checkpoints) - self._keep
    best = self._best()
    return [
      i >= first_kept or c.step == best for i, c in enumerate(checkpoints)
    ]


class _Manager(ocp.CheckpointManager):
  """Leaves preemption to :mod:`sparse_regimes.runs.pauses`.

  JAX counts the calls that ask for it, and orbax asks with numbers of its own.
  """

  def reached_preemption(self, step: int) -> bool:
    return False


def make_manager(
  workdir: epath.Path, *, policy: _LatestAndBest | None
) -> ocp.CheckpointManager:
  """Without a policy it only reads."""
  return _Manager(
    (workdir / FOLDER).absolute(),
    options=ocp.CheckpointManagerOptions(
      preservation_policy=policy,
      cleanup_tmp_directories=policy is not None,
      create=policy is not None,
      # Their metadata may be damaged, and is read when they are.
      lightweight_initialize=True,
    ),
    item_names=("state", "journal"),
  )


def read(
  manager: ocp.CheckpointManager, number: int, template: TrainState
) -> tuple[TrainState, Journal]:
  """A checkpoint, its checksums compared.

  Raises:
    DamagedError: if it is not what was saved.
  """
  with _damage_named():
    restored = _restore(
      manager,
      number,
      state=ocp.args.StandardRestore(_on_disk(template)),
      journal=ocp.args.JsonRestore(),
    )
    state = _from_disk(restored.state)
    content = _object(restored.journal)
    expected, found = content.pop("digest", None), digest(state)
    journal = Journal.from_json(content)
    if not isinstance(expected, list) or len(expected) != len(found):
      raise ValueError("the journal has no checksums of these arrays")
    paths, _ = jax.tree.flatten_with_path(template)
    differing = [
      jax.tree_util.keystr(path)
      for (path, _), a, b in zip(paths, expected, found, strict=True)
      if a != b
    ]
    if differing:
      raise ValueError(f"the checksum of {', '.join(differing)} does not match")
    return state, journal


def _on_disk(state: TrainState) -> dict[str, Any]:
  """The names in a checkpoint: those that the first ones had, and what is new.

  So a run that an earlier version began goes on.
  """
  content = {name: getattr(state, name) for name in _FIELDS}
  others = {n: v for n, v in state.model_state.items() if n != "batch_stats"}
  if others:
    content["model_state"] = others
  if state.extra is not None:
    content["extra"] = state.extra
  return content


def _from_disk(content: dict[str, Any]) -> TrainState:
  statistics = content["batch_stats"]
  model_state = dict(content.get("model_state", {}))
  if statistics:
    model_state["batch_stats"] = statistics
  return TrainState(
    **{name: content[name] for name in _FIELDS if name != "batch_stats"},
    model_state=model_state,
    extra=content.get("extra"),
  )


def read_journal(manager: ocp.CheckpointManager, number: int) -> Journal:
  """A checkpoint's journal alone; raises as :func:`read` does."""
  with _damage_named():
    restored = _restore(manager, number, journal=ocp.args.JsonRestore())
    content = _object(restored.journal)
    content.pop("digest", None)
    return Journal.from_json(content)


def _restore(
  manager: ocp.CheckpointManager, number: int, **items: Any
) -> ocp.args.Composite:
  # Before anything is read into memory. Arrays lie a level deeper.
  folder = epath.Path(manager.directory) / str(number)
  for path in [*folder.glob("*"), *folder.glob("*/*")]:
    if path.is_file() and path.stat().length > MAX_BYTES:
      raise ValueError(f"{path.name} has more than {MAX_BYTES} bytes")
  return manager.restore(number, args=ocp.args.Composite(**items))


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
  """Turns whatever damaged bytes lead to into a :class:`DamagedError`."""
  policy = asyncio.get_event_loop_policy()
  asyncio.set_event_loop_policy(_ReadPolicy())
  try:
    yield
  except MemoryError:
    raise
  except OSError as error:
    # Storage that cannot be reached just now is not damage.
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
      raise
    raise DamagedError(_reason(error)) from error
  except Exception as error:
    raise DamagedError(_reason(error)) from error
  finally:
    asyncio.set_event_loop_policy(policy)


class _ReadLoop(asyncio.SelectorEventLoop):
  """An event loop that ends what it began.

  Orbax closes its loop at the first array that cannot be read. The other reads
  would go on, and each would tell the terminal that its loop is closed.
  """

  def close(self) -> None:
    """Waits for the other reads, whose errors nobody needs, and closes."""
    if not self.is_closed() and (tasks := asyncio.all_tasks(self)):
      self.run_until_complete(asyncio.wait(tasks, timeout=_SECONDS_TO_END))
      for task in tasks:
        if not task.done():
          task.cancel()
        elif not task.cancelled():
          task.exception()
    super().close()


class _ReadPolicy(asyncio.DefaultEventLoopPolicy):
  """Orbax makes its own loops; this decides of which kind."""

  _loop_factory = _ReadLoop


def _object(content: Any) -> dict[str, Any]:
  if not isinstance(content, dict):
    raise ValueError("the journal is not a JSON object")
  return dict(content)


def _unfinished(workdir: epath.Path) -> list[str]:
  folder = workdir / FOLDER
  if not folder.exists():
    return []
  return sorted(p.name for p in folder.iterdir() if _UNFINISHED in p.name)


def _set_aside(workdir: epath.Path, checkpoints: Iterable[int]) -> None:
  aside = workdir / DAMAGED
  aside.mkdir(parents=True, exist_ok=True)
  for checkpoint in checkpoints:
    taken = len(list(aside.iterdir()))
    source = workdir / FOLDER / str(checkpoint)
    source.rename(aside / f"{checkpoint}-{taken}")


def _reason(error: Exception) -> str:
  text = " ".join(str(error).split())
  return f"{type(error).__name__}: {text[:200]}"
