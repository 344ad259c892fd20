import jax
import jax.numpy as jnp
import numpy as np
import pytest
from controllers.contract_test import ACCURACY, run

from sparse_regimes.controllers import k_decay, polynomial


def ratios(controller, number=200):
  return np.array([s.keep_ratio for s in run(controller, ACCURACY[:number])])


@pytest.mark.parametrize(
  "arguments",
  [
    {"end": 100},
    {"begin": 20, "end": 90, "decide_every": 7, "power": 1.0},
    {"begin": 199, "end": 200, "decide_every": 1, "power": 0.5},
    {"keep_init": 0.2, "keep_final": 1.0, "begin": 10, "end": 77, "power": 2.0},
  ],
)
def test_follows_its_equation(arguments):
  given = {"keep_init": 1.0, "keep_final": 0.1, "begin": 0, "power": 3.0}
  given |= {"decide_every": 10} | arguments
  n = np.arange(1, 201) // given["decide_every"] * given["decide_every"]
  t = np.clip((n - given["begin"]) / (given["end"] - given["begin"]), 0, 1)
  final = given["keep_final"]
  expected = final + (given["keep_init"] - final) * (1 - t) ** given["power"]
  got = ratios(polynomial(**given))
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_dense_is_dense_to_the_last_bit():
  up = ratios(polynomial(keep_init=0.3, keep_final=1.0, end=7, decide_every=1))
  assert up[5] < 1
  assert (up[6:] == 1).all()
  late = ratios(polynomial(begin=50, end=60, decide_every=1), 51)
  assert (late[:50] == 1).all()
  assert late[50] < 1


def test_long_runs_end_where_they_should():
  controller = polynomial(begin=2**30, end=2**30 + 4, power=1, decide_every=1)
  state = controller.init()._replace(num_batches=jnp.int32(2**30 - 1))
  seen = []
  for _ in range(6):
    state = controller.update(state, loss=1.0)
    seen.append(float(state.keep_ratio))
  np.testing.assert_allclose(seen, [1, 0.775, 0.55, 0.325, 0.1, 0.1], rtol=1e-6)


def test_k_decays_in_a_straight_line():
  got = ratios(k_decay(keep_final=0.2, k_decay_steps=80))
  n = np.arange(1, 201)
  np.testing.assert_allclose(
    got, 0.2 + 0.8 * np.maximum(0, 1 - n / 80), rtol=0, atol=1e-6
  )
  assert (got[79:] == np.float32(0.2)).all()


def test_accuracy_decides_nothing():
  controller = polynomial(end=50, decide_every=1)
  other = [s.keep_ratio for s in run(controller, np.zeros(200))]
  np.testing.assert_array_equal(ratios(controller), np.array(other))


def test_traced_numbers_are_those_that_are_not():
  def after(keep_init, keep_final, begin, end, power, decide_every):
    controller = polynomial(
      keep_init=keep_init,
      keep_final=keep_final,
      begin=begin,
      end=end,
      power=power,
      decide_every=decide_every,
    )

    def body(state, loss):
      state = controller.update(state, loss=loss)
      return state, state.keep_ratio

    return jax.lax.scan(body, controller.init(), jnp.ones(30))[1]

  given = [(1.0, 0.1, 0, 20, 3.0, 1), (0.5, 0.7, 5, 9, 1.0, 2)]
  columns = [jnp.array(column) for column in zip(*given, strict=True)]
  mapped = jax.vmap(after)(*columns)
  for row, arguments in zip(mapped, given, strict=True):
    np.testing.assert_allclose(row, after(*arguments), rtol=1e-5)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: polynomial(keep_init=1.2), r"keep_init must be in \[0, 1\]"),
    (lambda: polynomial(keep_final=-0.1), "keep_final must be in"),
    (lambda: polynomial(keep_final=float("nan")), "keep_final must be in"),
    (lambda: polynomial(begin=-1), "begin must be in"),
    (lambda: polynomial(begin=5, end=5), r"end must be in \[6, 2147483647\]"),
    (lambda: polynomial(power=0), "power must be in"),
    (lambda: polynomial(decide_every=0), "decide_every must be in"),
    (lambda: k_decay(k_decay_steps=0), "k_decay_steps must be in"),
    (lambda: k_decay(keep_final=2), "keep_final must be in"),
  ],
)
def test_bad_values_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
