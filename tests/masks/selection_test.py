import functools
import json
import math

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.sharding import PartitionSpec as P

from sparse_regimes import (
  SparseActivation,
  at_site,
  num_kept,
  sparse_activation,
  sparsify,
  topk_mask,
)
from sparse_regimes.masks.activations import ACTIVATIONS
from sparse_regimes.masks.kernels import choice
from sparse_regimes.masks.kernels.sharding import DATA_AXIS
from sparse_regimes.masks.sites import check_sites

jitted_mask = jax.jit(topk_mask, static_argnames=("axis", "implementation"))
jitted_activation = jax.jit(
  sparse_activation, static_argnames=("activation", "scope", "score")
)

# The kernel for GPUs is that of gpu_test.py.
IMPLEMENTATIONS = [n for n in choice.IMPLEMENTATIONS if n != "pallas_gpu"]
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


@pytest.mark.slow
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
  # Each kind of number is compiled for: once is enough.
  kinds = (1.0, 1, 2.0) if activation == "relu" else ()
  for ratio in (*kinds, jnp.float32(1)):
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


@pytest.mark.slow
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
    (lambda x: sparse_activation(x, 0.5, activation="sine"), "relu, leakyrelu"),
    (lambda x: sparse_activation(x, 0.5, scope="row"), "global, channel"),
    (lambda x: sparse_activation(x, 0.5, score="rank"), "value, magnitude"),
    (lambda x: topk_mask(x, 0.5, axis=2), "axis must name distinct axes"),
    (lambda x: topk_mask(x, 0.5, axis=(0, -2)), "axis must name distinct"),
    (lambda x: topk_mask(x, 0.5, axis=()), "axis must name distinct axes"),
    (lambda x: topk_mask(x, jnp.ones(2), axis=1), "must be a scalar"),
    (lambda x: topk_mask(x.astype("complex64"), 0.5, axis=1), "real numbers"),
    (
      lambda x: topk_mask(x, 0.5, axis=1, implementation="a"),
      "lax_top_k, xla, xla_fixed, pallas_tpu",
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


# --- Meshes ------------------------------------------------------------------

KEY = jax.random.key(0)
ROWS = jax.random.normal(KEY, (16, 4, 4, 8))
COLLECTIVES = ("all-", "reduce-scatter", "collective-permute")
PLACES = [
  (("rows",), (8,), PartitionSpec("rows"), False),
  (("batch", "model"), (4, 2), PartitionSpec(("batch", "model")), False),
  (("batch", "model"), (4, 2), PartitionSpec("batch"), False),
  # A row that is itself split has to be gathered.
  (("batch", "model"), (4, 2), PartitionSpec("batch", None, "model"), True),
]


def masked(implementation, **arguments):
  """Not ReLU: where its zeros need no order another search is taken."""
  return functools.partial(
    sparse_activation,
    activation="gelu",
    implementation=implementation,
    **arguments,
  )


@functools.cache
def expected_of(implementation):
  return np.asarray(jax.jit(masked(implementation))(ROWS, 0.3))


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize(("names", "shape", "spec", "gathers"), PLACES)
def test_any_mesh_gives_the_mask_of_one_device(
  names, shape, spec, gathers, kind, implementation
):
  mesh = jax.make_mesh(shape, names, (kind,) * len(names))
  x = jax.device_put(ROWS, NamedSharding(mesh, spec))
  f = jax.jit(masked(implementation))
  text = f.lower(x, 0.3).compile().as_text()
  found = {name for name in COLLECTIVES if name in text}
  assert found == ({"all-"} if gathers else set())
  assert "all-reduce" not in text
  y = f(x, 0.3)
  assert y.sharding.is_equivalent_to(x.sharding, y.ndim)
  np.testing.assert_array_equal(y, expected_of(implementation))


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("axis_names", [{"a"}, {"a", "b"}])
def test_shard_map_of_all_or_some_axes(axis_names, check_vma, implementation):
  mesh = jax.make_mesh((4, 2), ("a", "b"), (AxisType.Auto,) * 2)
  spec = PartitionSpec(tuple(sorted(axis_names)))
  f = jax.jit(
    jax.shard_map(
      masked(implementation),
      mesh=mesh,
      in_specs=(spec, PartitionSpec()),
      out_specs=spec,
      axis_names=axis_names,
      check_vma=check_vma,
    )
  )
  x = jax.device_put(ROWS, NamedSharding(mesh, spec))
  np.testing.assert_array_equal(
    f(x, jnp.float32(0.3)), expected_of(implementation)
  )


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_pmap_over_any_name(implementation):
  f = jax.pmap(masked(implementation), axis_name=DATA_AXIS, in_axes=(0, None))
  y = f(ROWS.reshape(8, 2, 4, 4, 8), 0.3)
  np.testing.assert_array_equal(
    y.reshape(ROWS.shape), expected_of(implementation)
  )


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rows_that_do_not_divide(implementation):
  rows = NamedSharding(jax.make_mesh((8,), ("a",), (AxisType.Auto,)), P("a"))

  @jax.jit
  def f(x):
    return masked(implementation)(lax.with_sharding_constraint(x, rows), 0.3)

  np.testing.assert_array_equal(f(ROWS[:13]), expected_of(implementation)[:13])


def test_ratios_are_mapped_over_a_split_batch():
  mesh = jax.make_mesh((8,), ("rows",), (AxisType.Auto,))
  x = jax.device_put(ROWS, NamedSharding(mesh, P("rows")))
  f = jax.jit(jax.vmap(masked("xla"), in_axes=(None, 0)))
  ratios = jnp.array([0.3, 1.0])
  text = f.lower(x, ratios).compile().as_text()
  assert not any(name in text for name in COLLECTIVES)
  got, expected = f(x, ratios)[0], expected_of("xla")
  np.testing.assert_array_equal(got != 0, expected != 0)
  # Fused with other things, the activation may be rounded otherwise.
  np.testing.assert_allclose(got, expected, rtol=1e-6)


# --- Scopes, axes, sites -----------------------------------------------------


@pytest.mark.slow
def test_axes_and_scopes_say_the_same():
  for scope, axis in (("global", (1, 2, 3)), ("channel", -1)):
    np.testing.assert_array_equal(
      sparse_activation(ROWS, 0.3, axis=axis),
      sparse_activation(ROWS, 0.3, scope=scope),
    )
    np.testing.assert_array_equal(
      topk_mask(ROWS, 0.3, axis=axis), topk_mask(ROWS, 0.3, scope=scope)
    )
  # A budget over the batch, which no scope has.
  kept = np.count_nonzero(sparsify(ROWS, 0.25, axis=0), axis=0)
  assert set(kept.ravel()) == {4}


def test_a_vector_of_budgets_has_an_entry_a_site():
  ratios = jnp.array([0.25, 1.0])
  assert at_site(0.5, 7) == 0.5
  assert at_site(ratios, 1) == 1
  layer = SparseActivation(activation="identity", site=0)
  y = layer.apply({}, ROWS, ratios)
  np.testing.assert_array_equal(
    y, sparse_activation(ROWS, 0.25, activation="identity")
  )


class Scoped(nn.Module):
  """A user's module whose field Linen overwrites."""

  scope: str = "global"

  @nn.compact
  def __call__(self, x):
    return SparseActivation(scope=self.scope)(x, 0.5)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: Scoped().init(KEY, ROWS), "so call the field of yours `budget_sc"),
    (
      lambda: sparse_activation(ROWS, 0.5, scope=object()),
      "scope must be one of global, channel, got a object",
    ),
    (
      lambda: sparse_activation(ROWS, 0.5, scope="channel", axis=1),
      "axis and scope say the same: give one, got axis 1 and scope 'channel'",
    ),
    (lambda: topk_mask(ROWS, 0.5), "axis must name the axes that share"),
    (
      lambda: sparse_activation(ROWS, jnp.ones(2)),
      r"scalar at each site, got shape \(2,\): sparse_regimes.at_site",
    ),
    (lambda: at_site(jnp.ones(2), 2), r"got shape \(2,\) at site 2"),
    (
      lambda: check_sites(jnp.ones(2), 3),
      r"an entry for each of 3 sites, got shape \(2,\)",
    ),
  ],
)
def test_scopes_axes_and_sites_that_are_none_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.slow
@pytest.mark.parametrize(
  "dtype",
  [
    *("float8_e8m0fnu", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz"),
    *("float8_e3m4", "float8_e4m3", "float8_e4m3fnuz", "float8_e5m2fnuz"),
  ],
)
def test_floats_of_eight_bits(dtype):
  """Every one of their numbers, in order."""
  bits = np.random.default_rng(0).permutation(256).astype(np.uint8)
  values = lax.bitcast_convert_type(jnp.asarray(bits), jnp.dtype(dtype))
  numbers = np.asarray(values).astype(np.float32)
  finite = np.flatnonzero(np.isfinite(numbers))
  values, numbers = values[finite], numbers[finite]
  for implementation in ("xla", "lax_top_k"):
    for kept in (1, 50, 127, len(finite) - 1):
      mask = topk_mask(
        values,
        (kept + 0.5) / len(finite),
        axis=0,
        implementation=implementation,
      )
      assert np.count_nonzero(mask) == kept
      assert numbers[mask].min() >= numbers[~np.asarray(mask)].max()


@pytest.mark.slow
@pytest.mark.parametrize(
  "spec", [P(None, "a"), P("a"), P("a", None, "b"), P("a", "b")]
)
def test_vmap_on_a_mesh_of_explicit_axes(spec):
  mesh = jax.make_mesh((4, 2), ("a", "b"))
  x = jax.random.normal(KEY, (4, 8, 16))
  ratios = jnp.array([0.1, 0.5, 0.7, 1.0])
  for f, arguments in (
    (jax.vmap(sparse_activation), (ratios,)),
    (jax.vmap(lambda x: sparse_activation(x, 0.3)), ()),
  ):
    if arguments and spec[0] is not None:
      continue  # a ratio for each of split examples is split itself
    expected = jax.jit(f)(x, *arguments)
    split = jax.device_put(x, NamedSharding(mesh, spec))
    np.testing.assert_array_equal(jax.jit(f)(split, *arguments), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_arrays_that_have_not_been_put_on_the_mesh(kind):
  def f(y):
    return sparse_activation(y, 0.3)

  y = jax.random.normal(jax.random.key(0), (16, 24))
  for rows in (y, np.asarray(y), y[:7]):
    expected = jax.jit(f)(rows)
    with jax.set_mesh(jax.make_mesh((8,), ("devices",), (kind,))):
      np.testing.assert_array_equal(jax.jit(f)(rows), expected)


def test_a_site_s_number_may_be_traced():
  budgets = jnp.array([0.1, 0.2])
  assert jax.jit(lambda i: at_site(budgets, i))(1) == budgets[1]
