"""Dense and sparse stages, by what is active."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_regimes.controllers import ssd_switch


def trace(controller, stats):
  def body(state, value):
    state = controller.update(state, stats=value)
    return state, state

  stats = jnp.asarray(stats, jnp.float32)
  return jax.device_get(jax.lax.scan(body, controller.init(), stats)[1])


def similar(p, q, measure):
  if measure == "overlap":
    return 1 - np.abs(p - q).sum() / (np.abs(p) + np.abs(q)).sum()
  return p @ q / np.sqrt((p @ p) * (q @ q))


def oracle(
  stats,
  *,
  keep_sparse=0.25,
  similarity=0.95,
  check_every=100,
  sparse_steps=100,
  total_steps=0,
  final_dense=0.1,
  measure="overlap",
):
  """The definition, batch by batch: the budget after each."""
  final = total_steps - round(final_dense * total_steps)
  last, sparse_left, since, ratios = None, 0, 0, []
  for i, pattern in enumerate(stats, start=1):
    if sparse_left:
      sparse_left -= 1
    else:
      since += 1
      if since == check_every:
        since = 0
        if last is not None and similar(pattern, last, measure) > similarity:
          sparse_left = sparse_steps
        last = pattern
    if total_steps and i >= final:
      sparse_left = 0
      ratios.append(1.0)
    else:
      ratios.append(keep_sparse if sparse_left else 1.0)
  return np.array(ratios)


@pytest.mark.parametrize(
  "arguments",
  [
    {"check_every": 1, "sparse_steps": 1},
    {"check_every": 5, "sparse_steps": 8, "similarity": 0.97},
    {"check_every": 4, "sparse_steps": 3, "total_steps": 300},
    {"check_every": 3, "sparse_steps": 9, "measure": "cosine"},
  ],
)
def test_follows_its_definition(arguments):
  rng = np.random.default_rng(3)
  # A walk: sometimes fast, sometimes hardly at all.
  steps = rng.normal(size=(300, 6)) * (rng.random((300, 1)) < 0.15) * 0.2
  stats = np.clip(0.5 + np.cumsum(steps, 0), 0.02, 1).astype(np.float32)
  states = trace(ssd_switch(**arguments), stats)
  expected = oracle(stats.astype(np.float64), **arguments)
  np.testing.assert_allclose(states.keep_ratio, expected)
  assert 0.1 < np.mean(expected == 1) < 0.9


def test_the_last_stage_is_dense():
  controller = ssd_switch(
    check_every=1, sparse_steps=50, total_steps=20, final_dense=0.25
  )
  ratios = trace(controller, np.full((25, 2), 0.5)).keep_ratio
  # Batch i + 1 runs at what batch i decided: the last five of 20 are dense.
  assert (ratios[1:14] == 0.25).all()
  assert (ratios[14:] == 1).all()


def test_patterns_of_sparse_batches_are_not_compared():
  stats = np.full((8, 3), 0.6)
  stats[2:5] = 0.1  # while sparse
  controller = ssd_switch(check_every=1, sparse_steps=3)
  states = trace(controller, stats)
  np.testing.assert_allclose(
    states.keep_ratio, [1, 0.25, 0.25, 0.25, 1, 0.25, 0.25, 0.25]
  )
  np.testing.assert_allclose(states.pattern[-1][:3], 0.6)


def test_overlap_sees_a_common_factor_and_cosine_does_not():
  stats = np.array([[0.8, 0.4], [0.4, 0.2]])
  seen = [
    trace(ssd_switch(check_every=1, measure=m), stats).similarity[-1]
    for m in ("overlap", "cosine")
  ]
  np.testing.assert_allclose(seen, [2 / 3, 1], rtol=1e-6)


@pytest.mark.parametrize("measure", ["overlap", "cosine"])
def test_nothing_active_is_alike_nothing_active(measure):
  controller = ssd_switch(check_every=1, measure=measure)
  zeros = trace(controller, np.zeros((2, 3)))
  assert zeros.similarity[-1] == 1
  assert zeros.keep_ratio[-1] == 0.25
  one = trace(controller, np.array([[0.0, 0.0], [0.5, 0.0]]))
  assert one.similarity[-1] == 0


@pytest.mark.parametrize("entries", [3, 4, 100])
def test_room_for_more_entries_changes_nothing(entries):
  stats = np.random.default_rng(0).random((30, 3)) * 0.1 + 0.5
  arguments = {"check_every": 2, "sparse_steps": 2, "similarity": 0.9}
  few, many = (
    trace(ssd_switch(max_entries=number, **arguments), stats)
    for number in (entries, 256)
  )
  np.testing.assert_array_equal(few.keep_ratio, many.keep_ratio)
  np.testing.assert_allclose(few.similarity, many.similarity, rtol=1e-6)


def test_any_tree_of_numbers_is_a_pattern():
  controller = ssd_switch(check_every=1, signal="duty")
  duty = {"a": jnp.array([[0.1, 0.2]]), "b": jnp.bfloat16(0.5)}
  state = controller.update(controller.init(), duty=duty, accuracy=0.3)
  np.testing.assert_allclose(state.pattern[:4], [0.1, 0.2, 0.5, 0])
  assert controller.update(state, duty=duty).keep_ratio == 0.25
  one = ssd_switch(check_every=1, signal="accuracy")
  state = one.update(one.init(), accuracy=0.5)
  assert one.update(state, accuracy=0.5).keep_ratio == 0.25
  assert one.update(state, accuracy=0.1).keep_ratio == 1


def test_one_entry_that_is_not_finite_moves_nothing():
  controller = ssd_switch(check_every=1)
  state = controller.update(controller.init(), stats=jnp.array([0.5, 0.5]))
  after = controller.update(state, stats=jnp.array([0.5, jnp.nan]))
  chex.assert_trees_all_equal(after, state)


def test_what_does_not_come_or_fit_is_said():
  controller = ssd_switch(max_entries=2)
  state = controller.init()
  with pytest.raises(ValueError, match="ssd_switch's signal 'stats' did not"):
    controller.update(state, accuracy=0.5)
  with pytest.raises(ValueError, match="max_entries must be at least the 3 of"):
    controller.update(state, stats=jnp.ones(3))
  with pytest.raises(ValueError, match="must have an entry, got none"):
    controller.update(state, stats=())


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"keep_sparse": 1.5}, r"keep_sparse must be in \[0, 1\], got 1.5"),
    ({"similarity": float("nan")}, "similarity must be in"),
    ({"check_every": 0}, "check_every must be in"),
    ({"sparse_steps": 0}, "sparse_steps must be in"),
    ({"total_steps": -1}, "total_steps must be in"),
    ({"final_dense": 2}, "final_dense must be in"),
    ({"measure": "overlp"}, "measure must be one of overlap, cosine"),
    ({"max_entries": 0}, "max_entries must be in"),
  ],
)
def test_bad_values_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    ssd_switch(**arguments)
