import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import apply, init

from sparse_regimes import WideResNet
from sparse_regimes.data.dataset import normalize
from sparse_regimes.models.wide_resnet import from_reference
from sparse_regimes.training.losses import cross_entropy

# Variant of parity/wrn.npz -> arguments of the model.
VARIANTS = {
  "rms_global": {"norm": "rms"},
  "bn_channel": {
    "norm": "bn",
    "scope": "channel",
    "activation": "leakyrelu",
    "score": "magnitude",
  },
  "ln_dense": {"norm": "ln", "activation": "gelu"},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_with_the_reference(parity, variant):
  arrays = parity("wrn")
  keep_ratio = arrays.json(f"{variant}/config")["topk_keep_ratio"]
  images = normalize(jnp.asarray(arrays["images_uint8_nhwc"][:8]))
  labels = jnp.asarray(arrays["labels"][:8])
  model = WideResNet(
    int(arrays["depth"]), int(arrays["widen"]), **VARIANTS[variant]
  )
  variables = from_reference(arrays.below(f"{variant}/params/"))

  @jax.jit
  def loss_fn(params, keep_ratio):
    (logits, stats), _ = model.apply(
      {**variables, "params": params},
      images,
      keep_ratio,
      train=True,
      mutable=["batch_stats"],
    )
    return jnp.mean(cross_entropy(logits, labels)), (logits, stats)

  (loss, (logits, stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
    variables["params"], keep_ratio
  )
  np.testing.assert_allclose(logits, arrays[f"{variant}/logits"], 1e-4, 1e-5)
  np.testing.assert_allclose(loss, arrays[f"{variant}/loss"], 1e-5)
  np.testing.assert_allclose(
    stats, arrays[f"{variant}/nonzero_per_site"], atol=1e-6
  )
  expected = from_reference(arrays.below(f"{variant}/grads/"))["params"]
  chex.assert_trees_all_equal_structs(grads, expected)
  for path, gradient in jax.tree_util.tree_leaves_with_path(grads):
    reference = expected
    for key in path:
      reference = reference[key.key]
    scale = np.abs(reference).max()
    np.testing.assert_allclose(
      gradient, reference, rtol=0, atol=1e-4 * scale, err_msg=str(path)
    )


def shapes(depth, widen, **arguments):
  model = WideResNet(depth, widen, **arguments)
  return jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), 1.0
  )


@pytest.mark.slow
def test_the_papers_network():
  model = WideResNet(28, 4)
  variables = shapes(28, 4)
  logits, stats = jax.eval_shape(
    lambda v, x: model.apply(v, x, 0.2, train=False),
    variables,
    jnp.zeros((2, 32, 32, 3)),
  )
  assert logits.shape == (2, 10)
  assert stats.shape == (25,)
  assert "batch_stats" not in variables
  # Convolutions and head of WRN-28-4, a scale and a bias in 25 norms.
  stem, head = 27 * 16, 256 * 10 + 10
  blocks = norms = 0
  for inputs, channels in ((16, 64), (64, 128), (128, 256)):
    convolutions = 9 * inputs * channels + 7 * 9 * channels**2
    blocks += convolutions + inputs * channels
    norms += 2 * (inputs + 7 * channels)
  num_parameters = sum(p.size for p in jax.tree.leaves(variables))
  assert num_parameters == stem + blocks + norms + 2 * 256 + head


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["rms", "ln", "bn", "none"])
def test_every_norm_trains_and_evaluates(norm):
  model = WideResNet(10, 1, norm=norm, dropout=0.1)
  images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  variables = init(model, images)

  @jax.jit
  def train(variables):
    return model.apply(
      variables,
      images,
      0.3,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": jax.random.key(2)},
    )

  (logits, stats), updated = train(variables)
  assert np.isfinite(logits).all()
  assert stats.max() <= 0.3
  assert ("batch_stats" in updated) == (norm == "bn")
  again, _ = apply(model, variables, images, 0.3)
  assert not np.allclose(again, logits)


@pytest.mark.slow
def test_half_precision_computes_in_it_and_keeps_float32_parameters():
  model = WideResNet(10, 1, dtype=jnp.bfloat16)
  images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  variables = init(model, images)
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  text = jax.jit(model.apply).lower(variables, images, 0.3).as_text()
  convolutions = [line for line in text.splitlines() if "convolution(" in line]
  assert convolutions
  assert all("bf16" in line for line in convolutions)
  logits, _ = apply(model, variables, images, 0.3)
  assert logits.dtype == jnp.float32


@pytest.mark.slow
def test_initialisation_is_kaiming():
  variables = init(WideResNet(10, 8), jnp.zeros((1, 8, 8, 3)))["params"]
  kernel = variables["group3_block0_conv2"]["kernel"]
  assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 512)), rel=0.01)
  shortcut = variables["group3_block0_shortcut"]["kernel"]
  assert np.std(shortcut) == pytest.approx(np.sqrt(2 / 512), rel=0.01)
  head = variables["head"]
  assert np.std(head["kernel"]) == pytest.approx(np.sqrt(1 / 512), rel=0.05)
  assert not head["bias"].any()


@pytest.mark.slow
def test_one_trace_serves_twenty_ratios():
  model = WideResNet(10, 1)
  images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  variables = init(model, images)

  @jax.jit
  @chex.assert_max_traces(1)
  def f(keep_ratio):
    return model.apply(variables, images, keep_ratio)[1]

  nonzero = [f(r).mean() for r in np.linspace(0.02, 0.4, 20)]
  assert np.all(np.diff(nonzero) > 0)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"depth": 11}, r"depth must be 6n \+ 4 \(10, 16, 22, 28, ...\), got 11"),
    ({"depth": 4}, "depth must be"),
    ({"widen": 0}, r"widen must be in \[1, 1024\], got 0"),
    ({"norm": "group"}, "norm must be one of rms, ln, bn, none, got 'group'"),
    ({"activation": "sine"}, "activation must be one of relu, leakyrelu"),
    ({"scope": "row"}, "scope must be one of global, channel, got 'row'"),
    ({"score": "rank"}, "score must be one of value, magnitude"),
    ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(ValueError, match=message):
    WideResNet(**({"depth": 10, "widen": 1} | arguments))


def test_from_reference_names_what_it_does_not_know():
  with pytest.raises(ValueError, match=r"got 'block1.0.conv1.scale'"):
    from_reference({"block1.0.conv1.scale": np.zeros(1)})
  for name in ("block9.0.conv1.weight", "block1.x.conv1.weight", "foo.weight"):
    with pytest.raises(ValueError, match="one reference network"):
      from_reference({name: np.zeros(1)})
  with pytest.raises(ValueError, match="got none"):
    from_reference({})
  with pytest.raises(ValueError, match="twice"):
    from_reference(
      {"a/params/fc.bias": np.zeros(1), "b/params/fc.bias": np.zeros(1)}
    )


@pytest.mark.parametrize(("depth", "widen", "size"), [(10, 1, 32), (16, 2, 9)])
def test_multiply_adds_are_those_of_the_traced_network(depth, widen, size):
  model = WideResNet(depth, widen)
  images = jnp.zeros((1, size, size, 3))
  variables = jax.eval_shape(model.init, jax.random.key(0), images, 1.0)
  jaxpr = jax.make_jaxpr(lambda v: model.apply(v, images, 0.5, train=False))(
    variables
  )
  counted, dots = [], 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "conv_general_dilated":
      height, width, inputs, _ = equation.invars[1].aval.shape
      size = height * width * inputs * equation.outvars[0].aval.size
      counted.append((height, size))
    elif equation.primitive.name == "dot_general":
      dots += equation.invars[1].aval.size
  total, by_site = model.multiply_adds(*images.shape[1:3])
  assert total == sum(size for _, size in counted) + dots
  # After the stem; shortcuts of size 1 read what is not masked.
  masked = [size for height, size in counted[1:] if height == 3]
  assert [*by_site.values()] == [*masked, 0]
