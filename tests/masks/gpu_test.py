"""The search for GPUs: interpreted here, and compiled for one that is not."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic_gpu.interpret import params
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sparse_regimes import sparse_activation, sparsify, topk_mask
from sparse_regimes.masks.kernels import pallas_gpu
from sparse_regimes.masks.kernels.choice import choose
from sparse_regimes.masks.kernels.reference import lax_top_k_mask

# No public name has it yet.
INTERPRETED = params.InterpretGPUParams
SPECIALS = np.array(
  [1, -0.0, 0, np.inf, -np.inf, np.nan, -np.nan, -1, 1e-40], np.float32
)


def rows_of(kind, size):
  rng = np.random.default_rng(0)
  normal = rng.normal(size=(2, size)).astype(np.float32)
  return {
    "relu": np.maximum(normal, 0),
    "heavy": rng.standard_cauchy((2, size)),
    "two_valued": rng.integers(0, 2, (2, size)).astype(np.float32),
    "specials": rng.choice(SPECIALS, (2, size)),
  }[kind]


def masked(scores, num_kept, **arguments):
  return pallas_gpu.kernel_mask(
    scores, num_kept, interpret=INTERPRETED(), **arguments
  )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["relu", "heavy", "two_valued", "specials"])
def test_the_set_is_that_of_lax_top_k(kind, dtype):
  # Not a whole number of chunks, and another budget in each row.
  scores = jnp.asarray(rows_of(kind, 4100), dtype)
  num_kept = jnp.array([820, 4100], jnp.int32)
  got = masked(scores, num_kept, break_zero_ties=True)
  np.testing.assert_array_equal(got, lax_top_k_mask(scores, num_kept))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
  ("size", "num_kept"), [(2048, [1, 2000]), (1500, [500, 900])]
)
def test_warp_groups_share_a_row(monkeypatch, dtype, size, num_kept):
  """Of values of both signs and of ties: some rows end below zero."""
  monkeypatch.setattr(pallas_gpu, "WARP_GROUPS", 2)
  split = pallas_gpu.split_of(size)
  assert (split.groups, split.rounds) == ((2, 1) if size == 2048 else (2, 3))
  scores = jnp.asarray(rows_of("heavy", size).round(), dtype)
  num_kept = jnp.array(num_kept, jnp.int32)
  kept, *ends = pallas_gpu.kernel_kept(
    scores, num_kept, break_zero_ties=True, interpret=INTERPRETED()
  )
  mask = lax_top_k_mask(scores, num_kept)
  np.testing.assert_array_equal(pallas_gpu.mask_up_to(scores, *ends), mask)
  np.testing.assert_array_equal(kept, jnp.where(mask, scores, 0))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["relu", "specials"])
def test_a_row_in_registers_is_that_in_shared_memory(monkeypatch, kind, dtype):
  scores = jnp.asarray(rows_of(kind, 700), dtype)
  num_kept = jnp.array([600, 100], jnp.int32)
  for zeros in (True, False):
    found = []
    for groups in (0, 1):
      monkeypatch.setattr(pallas_gpu, "WARP_GROUPS", groups)
      found.append(masked(scores, num_kept, break_zero_ties=zeros))
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["heavy", "two_valued", "specials"])
def test_long_rows_are_searched_digit_by_digit(monkeypatch, kind):
  monkeypatch.setattr(pallas_gpu, "WARP_GROUPS", 0)
  monkeypatch.setattr(pallas_gpu, "_MAX_BYTES", 16 * 1024)
  scores = jnp.asarray(rows_of(kind, 8000), jnp.float32)
  assert pallas_gpu.shared_bytes(8000, scores.dtype) == 2 * 8192
  num_kept = jnp.array([1, 3000], jnp.int32)
  got = masked(scores, num_kept, break_zero_ties=True)
  np.testing.assert_array_equal(got, lax_top_k_mask(scores, num_kept))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "by digits"])
def test_it_writes_what_is_kept(monkeypatch, dtype):
  if dtype == "by digits":
    monkeypatch.setattr(pallas_gpu, "WARP_GROUPS", 0)
    monkeypatch.setattr(pallas_gpu, "_MAX_BYTES", 12 * 1024)
    dtype = "float32"
  scores = jnp.asarray(rows_of("specials", 4100), dtype).reshape(2, 41, 100)
  num_kept = jnp.array([700, 3000], jnp.int32)
  kept, *ends = pallas_gpu.kernel_kept(
    scores, num_kept, break_zero_ties=True, interpret=INTERPRETED()
  )
  mask = lax_top_k_mask(scores, num_kept)
  np.testing.assert_array_equal(pallas_gpu.mask_up_to(scores, *ends), mask)
  bits = np.asarray(kept).view(f"uint{8 * kept.dtype.itemsize}")
  expected = np.asarray(jnp.where(mask, scores, jnp.zeros((), dtype)))
  np.testing.assert_array_equal(bits, expected.view(bits.dtype))


@pytest.mark.slow
def test_zeros_need_no_order():
  scores = jnp.asarray(rows_of("relu", 4096), jnp.float32)
  # Fewer than half are above zero.
  num_kept = jnp.array([3000, 100], jnp.int32)
  got = np.asarray(masked(scores, num_kept, break_zero_ties=False))
  assert got[0].all()
  np.testing.assert_array_equal(got[1], lax_top_k_mask(scores, num_kept)[1])


def test_where_it_cannot_run_it_says_why_and_what_can():
  for scores, why in (
    (jnp.ones((2, 256)), "an NVIDIA GPU of compute capability 9.0.*, got cpu"),
    (jnp.ones((1, 200_000), jnp.float16), "entries, got 200000 of float16"),
    (jnp.ones((2, 256), jnp.int32), "rows of float32, .*, got 256 of int32"),
    (jnp.ones((2, 255)), "of 256 to 110592 entries, got 255 of float32"),
  ):
    with pytest.raises(ValueError, match=f"{why}; xla_fixed, xla and lax_top"):
      topk_mask(scores, 0.5, axis=1, implementation="pallas_gpu")


@pytest.mark.parametrize(
  ("platform", "kind", "dtype", "chosen"),
  [
    ("gpu", "9.0", jnp.bfloat16, "pallas_gpu"),
    ("gpu", "9.0", jnp.int32, "xla_fixed"),
    ("gpu", "8.0", jnp.bfloat16, "xla_fixed"),
    ("gpu", "gfx942", jnp.float32, "xla_fixed"),
    ("cpu", "", jnp.float32, "xla"),
  ],
)
def test_the_fastest_is_chosen(monkeypatch, platform, kind, dtype, chosen):
  monkeypatch.setattr(pallas_gpu, "device", lambda: (platform, kind))
  assert choose(None, 65_536, jnp.dtype(dtype)) == chosen


def as_it_is(x):
  return sparse_activation(x, 0.3)


def over_rows_that_do_not_lie_together(x):
  return sparse_activation(x.T, 0.3, axis=0).T


def with_gelu(x):
  return sparse_activation(x, 0.3, activation="gelu")


def by_magnitude(x):
  return sparsify(x, 0.3, score="magnitude")


def mapped(x):
  return jax.vmap(as_it_is)(x)


def on_two_devices(f, x, kind, spec, **of_shard_map):
  is_manual = kind == AxisType.Manual
  kinds = (AxisType.Auto if is_manual else kind,)
  mesh = jax.make_mesh((2,), ("data",), kinds, devices=jax.devices()[:2])
  if is_manual:
    specs = {"in_specs": spec, "out_specs": spec}
    return jax.shard_map(f, mesh=mesh, **specs, **of_shard_map)(x)
  with jax.set_mesh(mesh):
    return f(jax.device_put(x, NamedSharding(mesh, spec)))


def value_and_gradient(sparsified, x):
  y, vjp = jax.vjp(sparsified, x)
  return y, *vjp(jnp.cos(y))


@pytest.mark.parametrize(
  ("kind", "spec"),
  [
    (None, None),
    *itertools.product(
      (AxisType.Auto, AxisType.Explicit), (("data",), (None, "data"))
    ),
    (AxisType.Manual, ("data",)),
  ],
)
@pytest.mark.parametrize(
  "sparsified",
  [
    *(as_it_is, over_rows_that_do_not_lie_together),
    *(with_gelu, by_magnitude, mapped),
  ],
)
def test_around_the_kernel_all_is_as_in_xla(
  monkeypatch, sparsified, kind, spec
):
  """It is lowered for the CPU, as a search in XLA; the rest is the same."""
  x = jax.random.normal(jax.random.key(0), (256, 300)).round(1)
  calls = jax.jit(functools.partial(value_and_gradient, sparsified))
  expected = calls(x)
  jax.clear_caches()
  monkeypatch.setattr(pallas_gpu, "device", lambda: ("gpu", "9.0"))
  if spec is None:
    got = calls(x)
  else:
    # JAX 0.12's erf does not say over which axes it varies.
    check = {"check_vma": False} if sparsified is with_gelu else {}
    got = on_two_devices(calls, x, kind, PartitionSpec(*spec), **check)
  jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_second_derivatives_are_those_of_the_search_in_xla(
  monkeypatch, activation
):
  x = jax.random.normal(jax.random.key(0), (2, 300))

  def loss(x):
    y = sparse_activation(x, 0.3, activation=activation)
    return jnp.sum(jnp.sin(y) ** 2)

  def products():
    gradient = jax.grad(loss)
    forward = jax.jvp(gradient, (x,), (jnp.cos(x),))[1]
    return forward, jax.grad(lambda x: jnp.sum(gradient(x) ** 2))(x)

  expected = products()
  monkeypatch.setattr(pallas_gpu, "device", lambda: ("gpu", "9.0"))
  for got, wanted in zip(products(), expected, strict=True):
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_it_can_be_traced_where_integers_are_of_64_bits():
  shapes = (
    jax.ShapeDtypeStruct((4, 70_000), jnp.float32),
    jax.ShapeDtypeStruct((4,), jnp.int32),
  )
  with jax.enable_x64(True):
    kernel = functools.partial(pallas_gpu.kernel_kept, break_zero_ties=True)
    kept, *ends = jax.eval_shape(kernel, *shapes)
  assert (kept.dtype, ends[0].dtype, ends[1].dtype) == (
    "float32",
    *["int32"] * 2,
  )


@pytest.mark.parametrize("size", [65_536, 32_768, 16_384])
def test_every_row_of_the_paper_s_network_fits(size):
  for dtype in (jnp.bfloat16, jnp.float32):
    assert size <= pallas_gpu.MAX_SIZE
    assert pallas_gpu.shared_bytes(size, jnp.dtype(dtype)) <= 227 * 1024


@pytest.mark.slow
def test_in_a_step_for_an_h100_the_host_waits_for_nothing(monkeypatch):
  pytest.importorskip("jax_cuda12_plugin", reason="the extra gpu-compile")
  import gpu_compile

  setup = {"depth": 10, "widen": 1, "batch_size": 8}
  rows = {
    variant: gpu_compile.compile_step("h100_sxm", variant=variant, **setup)
    for variant in (
      *("dense", "xla", "xla+command_buffers", "xla_fixed", "pallas_gpu"),
    )
  }
  waits = {variant: row["host_waits"] for variant, row in rows.items()}
  assert waits.pop("xla") > 0
  assert not any(waits.values())
  for variant in ("xla_fixed", "pallas_gpu"):
    swept = gpu_compile.compile_step(
      "h100_sxm", variant=variant, program="sweep", **setup
    )
    assert not swept["host_waits"]
  # At most 3 more a site, forward and backward; it has seven.
  more = rows["pallas_gpu"]["kernels"] - rows["dense"]["kernels"]
  assert more <= 3 * 7
  for groups in (0, 8):
    monkeypatch.setattr(pallas_gpu, "WARP_GROUPS", groups)
    jax.clear_caches()
    kernel = gpu_compile.compile_kernel("h100_sxm", 8, 65_536, jnp.bfloat16)
    assert not kernel["bytes_spilled"]
  assert jax.default_backend() == "cpu"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("how", ["split", "mapped", "on each device"])
def test_on_two_h100s_each_searches_its_own_rows(kind, how):
  pytest.importorskip("jax_cuda12_plugin", reason="the extra gpu-compile")
  import gpu_compile
  from gpu_plan import read_plan

  mesh = gpu_compile.mesh_of("h100_sxm", num_devices=2, kind=kind)
  spec = PartitionSpec("data")
  f = functools.partial(
    value_and_gradient, mapped if how == "mapped" else as_it_is
  )
  if how == "on each device":
    f = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)
  x = jax.ShapeDtypeStruct(
    (8, 4096), jnp.bfloat16, sharding=NamedSharding(mesh, spec)
  )
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    lowered = jax.jit(f).trace(x).lower(lowering_platforms=("cuda",))
  text = lowered.compile().as_text()
  assert "mosaic_gpu" in text
  assert not read_plan(text)["host_waits"]
  # Only vmap over an axis of an explicit mesh does not say what is split.
  if (how, kind) != ("mapped", AxisType.Explicit):
    assert "all-" not in text
