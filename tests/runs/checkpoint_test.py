import shutil
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import struct
from saved import journal_at, save_epochs, state_at

from sparse_regimes.errors import InputError
from sparse_regimes.runs import checkpoint, past_run
from sparse_regimes.runs.checkpoint import Checkpoints
from sparse_regimes.runs.mesh import (
  described,
  make_mesh,
  place_state,
  state_shardings,
)


def template(num_devices=1, parameters="replicated"):
  state = state_at(0)
  mesh = make_mesh(16, num_devices)
  return described(state, state_shardings(state, mesh, parameters))


def assert_states_equal(state, expected):
  chex.assert_trees_all_equal_structs(state, expected)
  assert state.rng.dtype == expected.rng.dtype
  key_data = jax.random.key_data
  chex.assert_trees_all_equal(
    jax.device_get(state.replace(rng=key_data(state.rng))),
    jax.device_get(expected.replace(rng=key_data(expected.rng))),
  )


@pytest.mark.slow
def test_the_last_and_the_best_are_kept_and_come_back_whole(tmp_path):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.2, 0.5, 0.4, 0.3])
  assert {p.name for p in (folder / "checkpoints").iterdir()} == {"6", "12"}
  for which, epoch in (("best", 2), ("last", 4)):
    state, journal = past_run.restore(folder, which, state_at(0))
    assert len(journal.records) == epoch
    assert_states_equal(state, state_at(2 * epoch))


def test_the_last_few_are_kept(tmp_path):
  save_epochs(epath.Path(tmp_path), [0.5, 0.4, 0.3, 0.2], keep=2)
  names = {p.name for p in (tmp_path / "checkpoints").iterdir()}
  assert names == {"3", "9", "12"}


@pytest.mark.parametrize("parameters", ["replicated", "sharded"])
@pytest.mark.parametrize("num_devices", [1, 4])
def test_saved_on_eight_devices_read_on_fewer(
  tmp_path, num_devices, parameters
):
  folder = epath.Path(tmp_path)
  state = state_at(2)
  mesh = make_mesh(16, 8)
  placed = place_state(state, state_shardings(state, mesh, parameters))
  with Checkpoints(folder, keep=1) as checkpoints:
    checkpoints.save(placed, journal_at(1, [0.5]))
  with Checkpoints(folder, keep=1) as checkpoints:
    restored, _ = checkpoints.restore_latest(
      template(num_devices, parameters), print
    )
  assert_states_equal(restored, state)
  assert len(restored.step.sharding.device_set) == num_devices


def truncate(folder):
  largest = max(files_of(folder), key=lambda p: p.stat().st_size)
  largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def remove_one(folder):
  (folder / "state" / "_METADATA").unlink()


def remove_arrays(folder):
  max(files_of(folder), key=lambda p: p.stat().st_size).unlink()


def flip(folder):
  largest = max(files_of(folder), key=lambda p: p.stat().st_size)
  content = bytearray(largest.read_bytes())
  for i in range(0, len(content), 97):
    content[i] ^= 0xFF
  largest.write_bytes(bytes(content))


def change_journal(folder):
  path = folder / "journal" / "metadata"
  path.write_text(path.read_text().replace('"step": ', '"step": 1'))


def empty(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def files_of(folder):
  return [p for p in folder.rglob("*") if p.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize(
  "damage",
  [truncate, remove_one, remove_arrays, flip, change_journal, empty],
)
def test_of_damaged_checkpoints_the_one_before_is_taken(tmp_path, damage):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.2, 0.3, 0.4], keep=2)
  damage(tmp_path / "checkpoints" / "9")
  lines = []
  with Checkpoints(folder, keep=2) as checkpoints:
    state, journal = checkpoints.restore_latest(template(), lines.append)
    assert "checkpoint  9 is damaged: skipped (" in lines[0]
    assert len(journal.records) == 2
    assert_states_equal(state, state_at(4))
    # The place is free for the run to come by again, and nothing is lost.
    checkpoints.save(state_at(6), journal_at(3, [0.2, 0.3, 0.4]))
  assert [p.name for p in (tmp_path / "damaged_checkpoints").iterdir()] == [
    "9-0"
  ]
  state, _ = past_run.restore(folder, "last", template())
  assert_states_equal(state, state_at(6))


def test_one_flipped_bit_of_an_array_shows(tmp_path):
  state = state_at(1)
  before = checkpoint.digest(state)
  for path in (("Dense_0", "kernel"), ("Dense_1", "bias")):
    params = jax.device_get(state.params)
    leaf = np.array(params[path[0]][path[1]])
    leaf.reshape(-1).view(np.uint32)[-1] ^= 1 << 31
    params[path[0]][path[1]] = leaf
    after = checkpoint.digest(state.replace(params=params))
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_the_digest_does_not_depend_on_the_sharding():
  state = state_at(1)
  mesh = make_mesh(16, 8)
  placed = place_state(state, state_shardings(state, mesh, "sharded"))
  assert checkpoint.digest(placed) == checkpoint.digest(state)


@pytest.mark.parametrize(("which", "epoch"), [("best", 1), ("last", 2)])
def test_an_evaluation_takes_the_one_before_too(tmp_path, which, epoch):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.9, 0.3, 0.4], keep=2)
  change_journal(tmp_path / "checkpoints" / "9")
  lines = []
  state, _ = past_run.restore(folder, which, template(), lines.append)
  assert_states_equal(state, state_at(2 * epoch))
  assert "checkpoint  9 is damaged: skipped (" in lines[0]


def test_metadata_of_any_size_is_not_read(tmp_path):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.2])
  with open(
    tmp_path / "checkpoints" / "3" / "state" / "_METADATA", "wb"
  ) as file:
    file.truncate(1 << 33)
  with pytest.raises(InputError, match=r"_METADATA has more than 268435456"):
    past_run.restore(folder, "last", template(), print)


def test_storage_that_fails_is_not_damage(tmp_path, monkeypatch):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.2, 0.3])

  def fail(*_, **__):
    raise OSError(5, "Input/output error")

  with Checkpoints(folder, keep=1) as checkpoints:
    monkeypatch.setattr(checkpoint, "_restore", fail)
    with pytest.raises(OSError, match="Input/output error"):
      checkpoints.restore_latest(template(), print)
  assert not (tmp_path / "damaged_checkpoints").exists()


def test_orbax_does_not_ask_for_preemptions_itself(tmp_path):
  with Checkpoints(epath.Path(tmp_path), keep=1) as checkpoints:
    assert not checkpoints._manager.reached_preemption(1)


def test_an_unfinished_save_is_named_and_cleared_away(tmp_path):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.2])
  unfinished = tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp"
  unfinished.mkdir()
  lines = []
  with Checkpoints(folder, keep=1) as checkpoints:
    _, journal = checkpoints.restore_latest(template(), lines.append)
  assert lines == [
    "checkpoint  6.orbax-checkpoint-tmp was not finished: skipped"
  ]
  assert len(journal.records) == 1
  assert not unfinished.exists()


def test_if_all_are_damaged_nothing_is_touched(tmp_path):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.2])
  flip(tmp_path / "checkpoints" / "3")
  with (
    pytest.raises(InputError, match=r"where none can .* --force_new"),
    Checkpoints(folder, keep=1) as checkpoints,
  ):
    checkpoints.restore_latest(template(), print)
  assert (tmp_path / "checkpoints" / "3").is_dir()


def test_without_checkpoints_there_is_nothing_to_restore(tmp_path):
  with Checkpoints(epath.Path(tmp_path), keep=1) as checkpoints:
    assert checkpoints.restore_latest(template(), print) is None


def save_and_wait(checkpoints, epoch):
  checkpoints.save(state_at(2 * epoch), journal_at(epoch, [0.2] * epoch))
  checkpoints.wait()


def test_a_save_that_fails_is_an_error_and_the_one_before_intact(tmp_path):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.2])
  with Checkpoints(folder, keep=1) as checkpoints:
    # A file where the folder has to be: even root cannot write below it.
    (tmp_path / "checkpoints").rename(tmp_path / "aside")
    (tmp_path / "checkpoints").touch()
    with pytest.raises(OSError, match="a checkpoint could not be saved below"):
      save_and_wait(checkpoints, 2)
    (tmp_path / "checkpoints").unlink()
    (tmp_path / "aside").rename(tmp_path / "checkpoints")
  state, _ = past_run.restore(folder, "last", template())
  assert_states_equal(state, state_at(2))


def test_half_a_checkpoint_is_cleared_away_when_it_fails(tmp_path):
  folder = epath.Path(tmp_path)
  save_epochs(folder, [0.2])

  def save(number, **_):
    # What orbax leaves where a disk is full.
    (tmp_path / "checkpoints" / f"{number}.orbax-checkpoint-tmp").mkdir()
    raise OSError(28, "No space left on device")

  def save_all():
    with Checkpoints(folder, keep=1) as checkpoints:
      checkpoints._manager.save = save
      save_and_wait(checkpoints, 2)

  with pytest.raises(OSError, match=r"below .* No space left"):
    save_all()
  assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_what_is_missing_is_named(tmp_path):
  folder = epath.Path(tmp_path)
  with pytest.raises(InputError, match="--checkpoint must be one of best, las"):
    past_run.restore(folder, "worst", template())
  with pytest.raises(InputError, match="must hold a run with checkpoints"):
    past_run.restore(folder, "best", template())
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(InputError, match="must hold a finished checkpoint"):
    past_run.restore(folder, "best", template())


class FirstState(struct.PyTreeNode):
  """What a state was when the first checkpoints were written."""

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  controller_state: Any
  rng: jax.Array


def test_a_checkpoint_of_the_first_version_is_read(tmp_path, monkeypatch):
  def as_it_was(state):
    return FirstState(
      **{name: getattr(state, name) for name in FirstState.__dataclass_fields__}
    )

  folder = epath.Path(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(checkpoint, "_on_disk", as_it_was)
    save_epochs(folder, [0.5])
  with Checkpoints(folder, keep=1) as checkpoints:
    state, _ = checkpoints.restore_latest(template(), print)
  assert_states_equal(state, state_at(2))
  assert set(state.model_state) == {"batch_stats"}


@pytest.mark.slow
def test_other_collections_and_what_a_project_adds_are_kept(tmp_path):
  def more(state):
    collections = state.model_state | {"counts": {"calls": jnp.int32(3)}}
    return state.replace(model_state=collections, extra={"ema": jnp.ones(2)})

  folder = epath.Path(tmp_path)
  with Checkpoints(folder, keep=1) as checkpoints:
    checkpoints.save(more(state_at(2)), journal_at(1, [0.5]))
  state = more(state_at(0))
  like = described(
    state, state_shardings(state, make_mesh(16, 1), "replicated")
  )
  with Checkpoints(folder, keep=1) as checkpoints:
    restored, _ = checkpoints.restore_latest(like, print)
  assert_states_equal(restored, more(state_at(2)))
