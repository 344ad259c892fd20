import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparse_regimes.training.optimizer import learning_rate_schedule, sgd


def rates(schedule, steps, **arguments):
  arguments = {
    "learning_rate": 0.1,
    "epochs": 10,
    "steps_per_epoch": 5,
  } | arguments
  rate = learning_rate_schedule(schedule, **arguments)
  return np.array([float(rate(s)) for s in steps])


def test_cosine_moves_once_an_epoch():
  steps = np.arange(50)
  expected = 0.05 * (1 + np.cos(np.pi * (steps // 5) / 10))
  np.testing.assert_allclose(rates("cosine", steps), expected, rtol=1e-5)


def test_epochs_begin_when_they_do_whatever_their_length():
  # Where float32 quotients round to the epoch before: 97, for one.
  for steps_per_epoch in (39, 97, 390, 781):
    starts = np.arange(1, 500) * steps_per_epoch
    rate = learning_rate_schedule(
      "multistep",
      learning_rate=1.0,
      epochs=500,
      steps_per_epoch=steps_per_epoch,
      milestones=tuple(range(1, 500)),
      decay_factor=0.999,
    )
    got = jax.vmap(rate)(jnp.asarray(starts))
    np.testing.assert_allclose(got, 0.999 ** np.arange(1, 500), rtol=1e-4)


def test_cosine_may_move_at_every_step():
  steps = np.arange(51)
  expected = 0.05 * (1 + np.cos(np.pi * steps / 50))
  np.testing.assert_allclose(
    rates("cosine", steps, per_step=True), expected, rtol=1e-5, atol=1e-8
  )


@pytest.mark.parametrize("per_step", [False, True])
def test_multistep_decays_at_its_milestones(per_step):
  got = rates(
    "multistep",
    [0, 14, 15, 29, 30, 49],
    milestones=(3, 6),
    decay_factor=0.2,
    per_step=per_step,
  )
  np.testing.assert_allclose(
    got, [0.1, 0.1, 0.02, 0.02, 0.004, 0.004], rtol=1e-5
  )


def test_without_milestones_multistep_is_constant():
  np.testing.assert_allclose(rates("multistep", [0, 49], milestones=()), 0.1)
  np.testing.assert_allclose(rates("constant", [0, 49]), 0.1)


def test_schedules_work_on_traced_steps():
  rate = learning_rate_schedule(
    "cosine", learning_rate=0.1, epochs=10, steps_per_epoch=5
  )
  assert jax.jit(rate)(jnp.int32(7)) == pytest.approx(float(rate(7)))


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_sgd_is_that_of_pytorch(nesterov, weight_decay):
  """Against the update rule written out."""
  rng = np.random.default_rng(0)
  gradients = rng.normal(size=(5, 3))
  ours = jnp.array([1.0, -2.0, 3.0])
  theirs, velocity = np.array([1.0, -2.0, 3.0]), np.zeros(3)
  tx = sgd(0.1, momentum=0.9, nesterov=nesterov, weight_decay=weight_decay)
  state = tx.init(ours)
  for gradient in gradients:
    updates, state = tx.update(jnp.asarray(gradient, "float32"), state, ours)
    ours = optax.apply_updates(ours, updates)
    g = gradient + weight_decay * theirs
    velocity = 0.9 * velocity + g
    theirs = theirs - 0.1 * (g + 0.9 * velocity if nesterov else velocity)
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_the_linear_schedule():
  got = rates("linear", [0, 4, 5, 49])
  np.testing.assert_allclose(got, [0.1, 0.1, 0.09, 0.01], rtol=1e-5)
  by_step = rates("linear", [0, 1, 25], per_step=True)
  np.testing.assert_allclose(by_step, [0.1, 0.098, 0.05], rtol=1e-5)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: rates("step", [0]), "multistep, constant, got 'step'"),
    (lambda: rates("cosine", [0], learning_rate=-1.0), "learning_rate must be"),
    (lambda: rates("cosine", [0], decay_factor=2.0), "decay_factor must be"),
    (lambda: sgd(0.1, momentum=1.0), r"momentum must be in \[0, 1\)"),
    (lambda: sgd(0.1, weight_decay=-0.1), "weight_decay must be at least 0"),
  ],
)
def test_bad_values_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
