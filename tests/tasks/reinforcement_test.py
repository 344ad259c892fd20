"""PPO under budgets, from its parts to a run."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from running import ROOT, records_of

from sparse_regimes import TrainState, controllers, num_kept
from sparse_regimes.main import main
from sparse_regimes.models import ActorCritic
from sparse_regimes.models.actor_critic import patches
from sparse_regimes.runs import config as configs
from sparse_regimes.runs import factory
from sparse_regimes.runs.task import make_task

pytest.importorskip("gymnax")

from sparse_regimes.tasks.reinforcement import ppo
from sparse_regimes.tasks.reinforcement.environment import Environment

TINY_PLAY = ROOT / "tests" / "tiny_play.py"
HYPER = ppo.Hyper(num_steps=16, num_epochs=2, num_minibatches=2)


def run(workdir, *arguments):
  with jax.numpy_dtype_promotion("standard"):
    return main(
      [
        *(f"--config={TINY_PLAY}", f"--workdir={workdir}"),
        *("--config.train.num_devices=1", *arguments),
      ]
    )


def test_advantages_are_those_of_their_sum():
  rng = np.random.default_rng(0)
  steps, envs = 7, 3
  reward, value = rng.normal(size=(2, steps, envs)).astype("float32")
  ended = rng.random((steps, envs)) < 0.3
  last = rng.normal(size=envs).astype("float32")
  unused = jnp.zeros((steps, envs))
  got = ppo.advantages(
    ppo.Transition(
      *(unused, unused, unused, jnp.asarray(value), jnp.asarray(reward)),
      *(jnp.asarray(ended), unused),
    ),
    jnp.asarray(last),
    0.9,
    0.8,
  )
  after = np.concatenate([value[1:], last[None]])
  for t in range(steps):
    for e in range(envs):
      expected, weight = 0.0, 1.0
      for k in range(t, steps):
        going = 0.0 if ended[k, e] else 1.0
        delta = reward[k, e] + 0.9 * after[k, e] * going - value[k, e]
        expected += weight * delta
        if ended[k, e]:
          break
        weight *= 0.9 * 0.8
      assert got[t, e] == pytest.approx(expected, abs=1e-5)


def test_the_loss_of_a_minibatch():
  """At the parameters that played, the ratio is one everywhere."""
  model = ActorCritic(width=8, depth=1, num_actions=3)
  rng = np.random.default_rng(1)
  x = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
  variables = model.init(jax.random.key(0), x, 1.0)
  (logits, value), _ = model.apply(variables, x, 1.0)
  action = jnp.array([0, 1, 2, 0, 1, 2])
  advantage = jnp.asarray(rng.normal(size=6), jnp.float32)
  target = jnp.asarray(rng.normal(size=6), jnp.float32)
  none = jnp.zeros(6)
  old = ppo.Transition(
    *(x, action, ppo.log_prob_of(logits, action), value, none, none, none)
  )
  loss, aux = ppo.ppo_loss(model.apply, HYPER)(
    variables["params"],
    {},
    (old, advantage, target),
    keep_ratio=1.0,
    rng=jax.random.key(1),
  )
  probs = np.asarray(jax.nn.softmax(logits), np.float64)
  entropy = -np.mean(np.sum(probs * np.log(probs), axis=1))
  # Normalised advantages have the mean 0.
  expected = 0.5 * 0.5 * np.mean((value - target) ** 2) - 0.01 * entropy
  assert float(loss) == pytest.approx(float(expected), abs=1e-5)
  assert aux == {}


@functools.cache
def played(controller_name="constant", **arguments):
  env = Environment("CartPole-v1")
  model = ActorCritic(width=16, depth=1, num_actions=2)
  controller = getattr(controllers, controller_name)(**arguments)
  # The optimizer of optax promotes types by itself.
  tx = optax.sgd(1e-2)
  step = ppo.make_ppo_step(model.apply, env, tx, controller, HYPER)

  def begin(seed):
    key = jax.random.key(seed)
    variables = model.init(key, jnp.zeros((1, 4)), 1.0)
    return TrainState.create(
      variables,
      tx=tx,
      controller=controller,
      rng=key,
      extra={"task": ppo.start(env, 4, key)},
    )

  return begin, step


@pytest.mark.slow
def test_seeds_may_be_mapped():
  begin, step = played(keep_ratio=0.5)
  with jax.numpy_dtype_promotion("standard"):
    states = jax.vmap(begin)(jnp.arange(3))
    mapped = jax.jit(jax.vmap(lambda s: step(step(s, None)[0], None)))(states)
    alone = jax.jit(lambda s: step(step(s, None)[0], None))(begin(1))
  picked = jax.tree.map(lambda x: x[1], mapped[1])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), picked, alone[1]
  )


@pytest.mark.slow
def test_the_budget_stays_for_a_rollout_and_no_episode_moves_nothing():
  begin, step = played(
    "strategy1", signal="return", drop_tol=9.0, decide_every=1, tighten_pct=0.5
  )
  with jax.numpy_dtype_promotion("standard"):
    state = begin(1)
    heard = []
    for _ in range(6):
      before = state.controller_state
      so_far = state.extra["task"].last
      state, metrics = jax.jit(step)(state, None)
      assert metrics["keep_ratio"] == before.keep_ratio
      kept = int(num_kept(16, float(before.keep_ratio))) / 16
      assert metrics["nonzero"] == pytest.approx(kept, abs=0.05)
      ended = state.extra["task"].last != so_far
      moved = state.controller_state.num_batches != before.num_batches
      assert moved == ended
      heard.append(bool(ended))
  # CartPole falls after about 20 steps, a rollout has 16.
  assert True in heard
  assert False in heard


def test_patches_make_a_convolution():
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.normal(size=(2, 6, 5, 3)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 4)), jnp.float32)
  expected = jax.lax.conv_general_dilated(
    *(images, kernel, (1, 1), "VALID"),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  got = patches(images, 3) @ kernel.reshape(27, 4)
  np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.slow
def test_minatar_s_network():
  env = Environment("Breakout-MinAtar")
  observation, _ = env.reset(jax.random.split(jax.random.key(0), 2))
  model = ActorCritic("conv", num_actions=env.num_actions, activation="relu")
  variables = model.init(jax.random.key(0), observation, 1.0)
  (logits, value), stats = model.apply(variables, observation, 0.1)
  assert (logits.shape, value.shape) == ((2, 3), (2,))
  assert len(stats) == len(model.site_names) == 3
  assert stats[0] <= 0.1


@pytest.fixture
def trained_player(once):
  def make(folder):
    assert run(folder / "run") == 0

  return once("trained_player", make) / "run"


@pytest.mark.run
def test_a_run_its_sweep_and_its_page(trained_player):
  records = records_of(trained_player)
  assert len(records) == 2
  assert all(record["test_dense_return"] > 5 for record in records)
  assert records[-1]["keep_ratio"] < 1
  summary = json.loads((trained_player / "summary.json").read_text())
  assert summary["environment_steps_per_second"] == pytest.approx(
    16 * summary["images_per_second"]
  )
  with jax.numpy_dtype_promotion("standard"):
    command = ["eval", f"--workdir={trained_player}", "--keep_ratios=1,0.25"]
    assert main(command) == 0
  rows = json.loads((trained_player / "sweep.json").read_text())["rows"]
  assert rows[0]["return"] == pytest.approx(-rows[0]["loss"])
  assert rows[1]["nonzero"] == pytest.approx(0.25)
  page = (trained_player / "report.html").read_text()
  assert "test return, dense" in page
  assert " environment steps/s" in page
  # A loss that is the return with a minus, and a gap to other episodes.
  for untold in ("test loss", "gap (train minus test", "Sparsity, flatness"):
    assert untold not in page


@pytest.mark.parametrize(
  ("field", "message"),
  [
    ("data.name=CartPole", "data.name must be one of CartPole-v1, "),
    ("data.name=Breakout-MinAta", "did you mean 'Breakout-MinAtar'"),
    ("data.name=Pendulum-v1", "data.name must have actions to choose from"),
    ("task.num_minibatches=3", "task.num_minibatches must divide the 64 steps"),
    ("task.discount=1.5", "discount must be"),
    ("controller.signal=accuracy", "controller.signal must be return or loss"),
    ("model.network=conv", "model.network=conv needs observations of shape"),
    ("model.name=transformer", "model.name must be actor_critic or FILE.py:"),
    ("model.network=rnn", "network must be one of mlp, conv"),
  ],
)
def test_mistakes_are_a_line(tmp_path, capsys, field, message):
  workdir = tmp_path / "run"
  assert run(workdir, f"--config.{field}") == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line
  assert not workdir.exists()


def test_the_schedule_counts_steps_of_the_run():
  config = configs.load(str(TINY_PLAY))
  task = make_task(config, print)
  assert task.updates_per_step(config) == 4
  parts = factory.make_parts(config, steps_per_epoch=10, **task.arguments)
  with jax.numpy_dtype_promotion("standard"):
    params = {"w": jnp.ones(1)}
    state = parts.tx.init(params)
    sizes = []
    for _ in range(80):
      updates, state = parts.tx.update(
        {"w": jnp.ones(1)}, state, params, value=0.0
      )
      sizes.append(-float(updates["w"][0]))
  # Adam's steps are as long as the rate, and 20 steps have 80 updates.
  by_step = np.reshape(sizes, (20, 4))
  np.testing.assert_allclose(
    by_step, np.tile(3e-3 * (1 - np.arange(20) / 20), (4, 1)).T, rtol=1e-3
  )


def test_a_switch_may_follow_what_is_active():
  switches = ["controller.name=ssd_switch", "controller.signal=stats"]
  config = configs.load(str(TINY_PLAY), switches)
  assert config.controller.signal == "stats"
