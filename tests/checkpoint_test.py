import chex
import jax
import pytest
from tiny import TinyNet, tiny_state

from sparse_regimes import checkpoint, controllers
from sparse_regimes.errors import InputError
from sparse_regimes.optimizer import sgd


def state_at(step):
  state = tiny_state(TinyNet(), sgd(0.1), controllers.strategy1())
  return state.replace(step=state.step + step)


def test_the_last_and_the_best_are_kept_and_come_back_whole(tmp_path):
  accuracies = {1: 0.2, 2: 0.5, 3: 0.4, 4: 0.3}
  with checkpoint.make_manager(tmp_path) as manager:
    for epoch, accuracy in accuracies.items():
      record = {"test_dense_accuracy": accuracy, "epoch": epoch}
      checkpoint.save(manager, epoch, state_at(epoch), record)
  names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
  assert names == {"2", "4"}
  template = jax.eval_shape(lambda: state_at(0))
  for which, expected in (("best", 2), ("last", 4)):
    epoch, state = checkpoint.restore(tmp_path, which, template)
    assert epoch == expected
    wanted = state_at(expected)
    assert state.rng.dtype == wanted.rng.dtype
    chex.assert_trees_all_equal_structs(state, wanted)
    as_data = jax.random.key_data
    chex.assert_trees_all_equal(
      state.replace(rng=as_data(state.rng)),
      wanted.replace(rng=as_data(wanted.rng)),
    )


def test_what_is_missing_is_named(tmp_path):
  template = jax.eval_shape(lambda: state_at(0))
  with pytest.raises(InputError, match="--checkpoint must be one of best, las"):
    checkpoint.restore(tmp_path, "worst", template)
  with pytest.raises(InputError, match="must hold a run with checkpoints"):
    checkpoint.restore(tmp_path, "best", template)
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(InputError, match="must hold a finished checkpoint"):
    checkpoint.restore(tmp_path, "best", template)
