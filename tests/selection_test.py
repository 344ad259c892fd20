import functools
import json
import math

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sparse_regimes import num_kept, sparse_activation, sparsify, topk_mask
from sparse_regimes.activations import ACTIVATIONS
from sparse_regimes.selection import IMPLEMENTATIONS

jitted_mask = jax.jit(topk_mask, static_argnames=("axis", "implementation"))
jitted_activation = jax.jit(
  sparse_activation, static_argnames=("activation", "scope", "score")
)

DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
RATIOS = (0.0, 1e-6, 0.037, 0.2, 0.5, 0.999, 1.0)
SPECIALS = np.array(
  [1, -0.0, 0, np.inf, -np.inf, np.nan, -np.nan, 0, -0.0, -1, 1e-40, -1e-40],
  np.float32,
)


def oracle(scores, keep_ratio):
  """The mask that jax.lax.top_k itself gives, over the last axis."""
  size = scores.shape[-1]
  kept = size if keep_ratio >= 1 else max(1, math.floor(size * keep_ratio))
  mask = np.zeros(scores.shape, bool)
  _, indices = lax.top_k(scores, size)  # compiled once for every `kept`
  np.put_along_axis(mask, np.asarray(indices)[..., :kept], True, axis=-1)
  return mask


def rows(kind, shape=(6, 257)):
  rng = np.random.default_rng(0)
  normal = rng.normal(size=shape)
  return {
    "normal": normal,
    "relu": np.maximum(normal, 0),
    "heavy": rng.standard_cauchy(shape),
    "two_valued": rng.integers(0, 2, shape).astype(float),
    "constant": np.full(shape, -3.5),
    "mostly_zero": np.where(rng.random(shape) < 0.02, normal, 0),
    "specials": rng.choice(SPECIALS, shape),
  }[kind]


KINDS = (
  "normal",
  "relu",
  "heavy",
  "two_valued",
  "constant",
  "mostly_zero",
  "specials",
)


def test_num_kept_follows_its_equation():
  for size, ratio, expected in [
    (10, 1.0, 10),
    (10, 7.0, 10),
    (10, 0.999, 9),
    (10, 0.3, 3),
    (10, 0.0, 1),
    (10, -1.0, 1),
    (1, 0.5, 1),
    (65536, 0.2, 13107),
    (2**24 + 1, 0.9999999, 2**24 - 2),
  ]:
    for f in (num_kept, jax.jit(num_kept, static_argnums=0)):
      kept = f(size, ratio)
      assert kept.dtype == jnp.int32
      assert kept == expected, (size, ratio)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_set_is_that_of_lax_top_k(kind, dtype, implementation):
  scores = jnp.asarray(rows(kind), dtype)
  for ratio in RATIOS:
    mask = jitted_mask(scores, ratio, axis=-1, implementation=implementation)
    np.testing.assert_array_equal(mask, oracle(scores, ratio), str(ratio))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("size", [1, 2, 127, 128, 129])
def test_any_row_length(size, implementation):
  scores = jnp.asarray(rows("two_valued", (3, size)), jnp.float32)
  for ratio in RATIOS:
    mask = jitted_mask(scores, ratio, axis=1, implementation=implementation)
    np.testing.assert_array_equal(mask, oracle(scores, ratio))


@given(
  values=st.lists(
    st.floats(width=32, allow_subnormal=True), min_size=24, max_size=24
  ),
  ratio=st.floats(0, 1, width=32),
)
def test_any_float_at_any_ratio(values, ratio):
  scores = jnp.array(values, jnp.float32).reshape(2, 12)
  expected = jitted_mask(scores, ratio, axis=1, implementation="lax_top_k")
  np.testing.assert_array_equal(jitted_mask(scores, ratio, axis=1), expected)
  np.testing.assert_array_equal(expected.sum(1), num_kept(12, ratio))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32"])
def test_integers_rank_as_integers(dtype):
  rng = np.random.default_rng(0)
  info = jnp.iinfo(dtype)
  scores = rng.integers(info.min, info.max, (4, 50), dtype, endpoint=True)
  for implementation in ("lax_top_k", "xla"):
    mask = topk_mask(
      jnp.asarray(scores), 0.3, axis=1, implementation=implementation
    )
    for row, kept in zip(scores, np.asarray(mask), strict=True):
      order = np.argsort(-row.astype(np.int64), kind="stable")
      assert set(np.flatnonzero(kept)) == set(order[:15])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
  "axis", [0, 1, -1, (1, 2, 3), (0, 2), (-1, 1), (0, 1, 2, 3)]
)
def test_axes_share_one_budget_in_row_major_order(axis, implementation):
  # Few distinct values, so that the order among equals matters.
  scores = np.random.default_rng(0).integers(0, 3, (4, 3, 5, 2)).astype("f4")
  mask = topk_mask(
    jnp.asarray(scores), 0.4, axis=axis, implementation=implementation
  )
  axes = tuple(a % 4 for a in (axis if isinstance(axis, tuple) else (axis,)))
  order = [a for a in range(4) if a not in axes] + sorted(axes)
  flat = scores.transpose(order).reshape(
    -1, math.prod(scores.shape[a] for a in axes)
  )
  got = np.asarray(mask).transpose(order).reshape(flat.shape)
  np.testing.assert_array_equal(got, oracle(jnp.asarray(flat), 0.4))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 4, 2)])
def test_empty_arrays(shape, implementation):
  scores = jnp.zeros(shape)
  mask = topk_mask(scores, 0.5, axis=-1, implementation=implementation)
  assert mask.shape == shape
  assert mask.dtype == bool


def test_the_order_of_special_values_is_the_documented_one():
  order = [-np.nan, -np.inf, -1, -1e-40, -0.0, 0.0, 1e-40, 1, np.inf, np.nan]
  scores = jnp.array(order, jnp.float32)
  for implementation in IMPLEMENTATIONS:
    for kept in range(1, len(order)):
      mask = jitted_mask(
        scores,
        (kept + 0.5) / len(order),
        axis=0,
        implementation=implementation,
      )
      assert list(np.flatnonzero(mask)) == list(
        range(len(order) - kept, len(order))
      )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_compilation_serves_twenty_ratios(implementation):
  @jax.jit
  @chex.assert_max_traces(1)
  def f(x, ratio):
    return sparse_activation(x, ratio, implementation=implementation)

  x = jax.random.normal(jax.random.key(0), (3, 4, 4, 8))
  for ratio in np.linspace(0.01, 1, 20):
    y = f(x, ratio)
    kept = int(num_kept(128, ratio))
    positive = np.asarray((x > 0).sum((1, 2, 3)))
    np.testing.assert_array_equal(
      np.count_nonzero(y, axis=(1, 2, 3)), np.minimum(kept, positive)
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_vmap_over_examples_and_over_ratios(implementation):
  def f(x, ratio):
    return sparsify(x, ratio, implementation=implementation)

  x = jax.random.normal(jax.random.key(0), (5, 33))
  ratios = jnp.array([0.1, 0.3, 0.5, 0.9, 1.0])
  np.testing.assert_array_equal(
    jax.vmap(f, in_axes=(0, None))(x, 0.3), f(x, 0.3)
  )
  mapped = jax.jit(jax.vmap(f))(x, ratios)
  one = jax.jit(f)
  for i, ratio in enumerate(ratios):
    np.testing.assert_array_equal(mapped[i], one(x[i], ratio))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_at_one_it_is_the_dense_activation_bit_for_bit(activation, dtype):
  x = jnp.asarray(rows("specials"), dtype)
  dense = jax.jit(ACTIVATIONS[activation])(x)
  for ratio in (1.0, 1, 2.0, jnp.float32(1)):
    y = jitted_activation(x, ratio, activation=activation)
    assert y.dtype == dtype
    assert np.asarray(y).tobytes() == np.asarray(dense).tobytes()


@pytest.mark.slow
def test_gradient_flows_through_kept_entries_only():
  x = jax.random.normal(jax.random.key(0), (4, 40))
  for activation, scope in (("gelu", "global"), ("leakyrelu", "channel")):

    def f(x, activation=activation, scope=scope):
      return sparse_activation(x, 0.25, activation=activation, scope=scope)

    y, vjp = jax.vjp(f, x)
    (dx,) = vjp(jnp.ones_like(y))
    np.testing.assert_array_equal(np.asarray(dx != 0), np.asarray(y != 0))
    chex.assert_numerical_grads(f, (x,), order=1, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
  "activation", ["relu", "jsrelu", "jsrelu_linear", "s_relu", "s_jsrelu"]
)
@pytest.mark.parametrize("score", ["value", "magnitude"])
def test_zeros_that_need_no_order_change_nothing(activation, score):
  """Against the function, whose zeros are told apart."""
  x = 2 * jax.random.normal(jax.random.key(0), (4, 40))

  @functools.partial(jax.jit, static_argnums=2)
  def f(x, ratio, activation):
    def total(x):
      y = sparse_activation(x, ratio, activation=activation, score=score)
      return y.sum(), y

    slope, y = jax.grad(total, has_aux=True)(x)
    return y, slope

  for ratio in (0.1, 0.4, 0.6, 0.9):
    values, slopes = zip(
      *(f(x, ratio, a) for a in (activation, ACTIVATIONS[activation])),
      strict=True,
    )
    np.testing.assert_array_equal(*values)
    np.testing.assert_array_equal(*slopes)


def test_magnitude_ranks_by_size_and_keeps_the_sign():
  x = jnp.array([[-5.0, 1.0, -2.0, 4.0]])
  np.testing.assert_array_equal(
    sparsify(x, 0.5, score="magnitude"), [[-5, 0, 0, 4]]
  )
  np.testing.assert_array_equal(sparsify(x, 0.5), [[0, 1, 0, 4]])


def test_scopes():
  x = jax.random.uniform(jax.random.key(0), (2, 3, 3, 8)) + 1
  by_example = sparsify(x, 0.25)
  by_position = sparsify(x, 0.25, scope="channel")
  assert set(np.count_nonzero(by_example, axis=(1, 2, 3))) == {18}
  assert set(np.count_nonzero(by_position, axis=3).ravel()) == {2}
  matrix = x.reshape(2, -1)
  np.testing.assert_array_equal(
    sparsify(matrix, 0.25), sparsify(matrix, 0.25, scope="channel")
  )


def test_batch_sharding_needs_no_communication():
  mesh = jax.make_mesh((8,), ("data",))
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  x = jax.random.normal(jax.random.key(0), (16, 4, 4, 8))
  f = jax.jit(sparse_activation, in_shardings=(sharding, None))
  compiled = f.lower(x, 0.2).compile()
  text = compiled.as_text()
  for collective in ("all-gather", "all-to-all", "collective-permute"):
    assert collective not in text
  y = f(x, 0.2)
  assert y.sharding.is_equivalent_to(sharding, y.ndim)
  np.testing.assert_array_equal(y, sparse_activation(x, 0.2))


@pytest.mark.parametrize("implementation", ["xla", "pallas_tpu"])
def test_devices_of_a_mesh_search_by_themselves(implementation):
  mesh = Mesh(np.array(jax.devices()), ("data",))
  sharding = NamedSharding(mesh, PartitionSpec("data"))
  x = jax.random.normal(jax.random.key(0), (16, 4, 4, 8))
  f = jax.jit(
    functools.partial(sparse_activation, implementation=implementation),
    in_shardings=(sharding, None),
  )
  with jax.set_mesh(mesh):
    text = f.lower(x, 0.2).compile().as_text()
    y = f(x, 0.2)
  # Not even to agree on when their loops end.
  for collective in ("all-", "reduce-scatter", "collective-permute"):
    assert collective not in text
  assert y.sharding.is_equivalent_to(sharding, y.ndim)
  np.testing.assert_array_equal(y, sparse_activation(x, 0.2))


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_parity_with_the_reference(parity, implementation):
  arrays = parity("activation")
  cases = arrays.json("index")
  assert len(cases) == 280
  if implementation == "pallas_tpu":  # interpreted, and so slow to compile
    cases = [c for c in cases if c["act"] in ("relu", "gelu")]

  @functools.partial(jax.jit, static_argnames=("act", "mode", "use_abs"))
  def run(x, cotangent, keep_ratio, *, act, mode, use_abs):
    y, vjp = jax.vjp(
      lambda x: sparse_activation(
        x,
        keep_ratio,
        activation=act,
        scope="global" if mode == "global" else "channel",
        score="magnitude" if use_abs else "value",
        implementation=implementation,
      ),
      x,
    )
    return y, vjp(cotangent)[0]

  for case in cases:
    key = case["key"]
    y, dx = run(
      arrays[f"{key}/x"],
      arrays[f"{key}/cotangent"],
      case["keep_ratio"],
      **{name: case[name] for name in ("act", "mode", "use_abs")},
    )
    note = json.dumps(case)
    np.testing.assert_allclose(y, arrays[f"{key}/y"], 1e-5, 2e-6, err_msg=note)
    np.testing.assert_allclose(
      dx, arrays[f"{key}/dx"], 1e-5, 2e-6, err_msg=note
    )
    np.testing.assert_array_equal(
      np.asarray(y) != 0, arrays[f"{key}/y"] != 0, note
    )


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda x: sparse_activation(x, 0.5, activation="tanh"), "relu, leakyrelu"),
    (lambda x: sparse_activation(x, 0.5, scope="row"), "global, channel"),
    (lambda x: sparse_activation(x, 0.5, score="rank"), "value, magnitude"),
    (lambda x: topk_mask(x, 0.5, axis=2), "axis must name distinct axes"),
    (lambda x: topk_mask(x, 0.5, axis=(0, -2)), "axis must name distinct"),
    (lambda x: topk_mask(x, 0.5, axis=()), "axis must name distinct axes"),
    (lambda x: topk_mask(x, jnp.ones(2), axis=1), "must be a scalar"),
    (lambda x: topk_mask(x.astype("complex64"), 0.5, axis=1), "real numbers"),
    (
      lambda x: topk_mask(x, 0.5, axis=1, implementation="a"),
      "lax_top_k, xla, pallas_tpu",
    ),
    (lambda x: sparsify(x[0, 0], 0.5), "at least one axis"),
    (
      lambda x: topk_mask(
        x.astype("int32"), 0.5, axis=1, implementation="pallas_tpu"
      ),
      "pallas_tpu takes rows of float32, bfloat16 or float16 up to 327680",
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call(jnp.ones((2, 3)))
