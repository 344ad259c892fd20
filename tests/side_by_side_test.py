"""Arms and seeds in one program are what they are alone."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import ROOT

from sparse_regimes.errors import InputError
from sparse_regimes.runs import config as configs

sys.path.insert(0, str(ROOT / "experiments"))

import side_by_side

LOSSES = np.concatenate(
  [np.linspace(4, 2, 120), np.linspace(2, 4, 60), np.linspace(3, 1, 120)]
).astype(np.float32)


@pytest.mark.parametrize("name", [*side_by_side.listeners("loss")])
def test_whose_budget_is_in_force(name):
  rules = side_by_side.listeners("loss")
  number = [*rules].index(name)
  together = side_by_side.among([*rules.values()])

  def budgets(controller, state):
    def hear(state, loss):
      state = controller.update(state, loss=loss)
      return state, state.keep_ratio

    return jax.jit(lambda s: jax.lax.scan(hear, s, jnp.asarray(LOSSES)))(state)

  state = together.init()._replace(number=jnp.int32(number))
  _, got = budgets(together, state)
  _, wanted = budgets(rules[name], rules[name].init())
  np.testing.assert_array_equal(got, wanted)
  assert got.min() < 1


def test_draws_are_from_the_quantiles_and_a_seed_s_own():
  together = side_by_side.among([])
  levels = jnp.linspace(0.2, 0.6, 21)

  def draws(seed):
    state = together.init()._replace(
      quantiles=levels, draws=jnp.array([seed, 0], jnp.int32)
    )
    found = []
    for _ in range(50):
      state = together.update(state, loss=1.0)
      found.append(float(state.keep_ratio))
    return found

  first, other = draws(0), draws(1)
  assert first != other
  assert min(first) >= 0.2 - 1e-6
  assert max(first) <= 0.6 + 1e-6
  assert abs(np.mean(first) - 0.4) < 0.1


@pytest.mark.slow
def test_side_by_side_is_one_by_one(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "part.txt").write_text("To be, or not to be.\n" * 60)
  sizes = (
    *("data.name=text:part.txt", "data.num_train=16", "task.context=8"),
    *("train.epochs=2", "train.batch_size=4", "eval.num_train=8"),
    *("model.depth=1", "model.width=16", "model.heads=2"),
    "eval.batch_size=8",
  )
  with jax.numpy_dtype_promotion("standard"):
    study = side_by_side.Study(configs.load("study_text", sizes))
    number = len(study.rules)
    networks = [
      side_by_side.Network("half", 0, number, (0.5,) * 21),
      side_by_side.Network("strategy1", 1, 0),
    ]
    _, together = study.run(networks)
    for network, record in zip(networks, together, strict=True):
      _, (alone,) = study.run([network])
      assert alone["budget_quantiles"] == record["budget_quantiles"]
      for mine, other in zip(record["sweep"], alone["sweep"], strict=True):
        assert mine == pytest.approx(other, rel=1e-4)
  first, last = (together[0]["epochs"][i]["test"] for i in (0, -1))
  assert last < first


def test_what_is_trained_one_by_one():
  class Compiled:
    rules = side_by_side.listeners("loss")

  records = [
    {"arm": side_by_side.MODEL, "budget_quantiles": [x] * 21}
    for x in (0.2, 0.4)
  ]
  matched = side_by_side.matched_budgets(records)
  assert matched == pytest.approx([0.3] * 21)
  networks = side_by_side.few_arms(Compiled, matched)
  arms = {network.arm for network in networks}
  wanted = {"constant_1.0", "gentle", "random", "random_matched"}
  assert arms == wanted | {side_by_side.MODEL}
  for arm in arms:
    assert sorted(n.seed for n in networks if n.arm == arm) == [*range(5)]
  rules = [*Compiled.rules]
  for network in networks:
    is_rule = network.arm in rules
    number = rules.index(network.arm) if is_rule else len(rules)
    assert network.number == number
  with pytest.raises(InputError, match="no run of the arm strategy1_averaged"):
    side_by_side.matched_budgets([])


def test_a_record_is_not_written_over(tmp_path, monkeypatch, capsys):
  (tmp_path / "arms.json").write_text("{}")
  monkeypatch.setattr(sys, "argv", ["it", f"--out={tmp_path}"])
  with pytest.raises(SystemExit, match=r"arms.json is there; choose another"):
    side_by_side.main()
