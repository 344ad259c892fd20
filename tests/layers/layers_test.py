import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sparse_regimes import SparseActivation, sparse_activation
from sparse_regimes.layers import NORMS, make_norm


def apply_norm(norm, arrays, *, train=True, dtype=jnp.float32):
  """Output, vjp and updated statistics of a norm with the file's parameters."""

  class OneNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
      return make_norm(norm, train=train, dtype=dtype, name="norm")(x)

  parameters = {
    "scale": arrays[f"{norm}/scale"],
    "bias": arrays[f"{norm}/bias"],
  }
  statistics = {"mean": jnp.zeros(16), "var": jnp.ones(16)}
  variables = {"params": {"norm": jax.tree.map(jnp.asarray, parameters)}}
  if norm == "bn":
    variables["batch_stats"] = {"norm": statistics}
    if not train:
      variables["batch_stats"]["norm"] = {
        "mean": jnp.asarray(arrays["bn/running_mean"]),
        "var": jnp.asarray(arrays["bn/running_var"]),
      }

  def f(x):
    return OneNorm().apply(variables, x, mutable=["batch_stats"])

  x = jnp.asarray(arrays[f"{norm}/x"])
  y, vjp, updated = jax.vjp(f, x, has_aux=True)
  return y, vjp, updated


@pytest.mark.parametrize("norm", ["rms", "ln", "bn"])
def test_parity_with_the_reference(parity, norm):
  arrays = parity("norm")
  y, vjp, _ = apply_norm(norm, arrays)
  (dx,) = vjp(jnp.asarray(arrays[f"{norm}/cotangent"]))
  np.testing.assert_allclose(y, arrays[f"{norm}/y"], rtol=1e-5, atol=2e-6)
  np.testing.assert_allclose(dx, arrays[f"{norm}/dx"], rtol=1e-4, atol=5e-6)


def test_batch_norm_statistics(parity):
  arrays = parity("norm")
  _, _, updated = apply_norm("bn", arrays)
  statistics = updated["batch_stats"]["norm"]
  for ours, theirs in (("mean", "running_mean"), ("var", "running_var")):
    np.testing.assert_allclose(
      statistics[ours], arrays[f"bn/{theirs}"], rtol=1e-5, atol=1e-6
    )
  y, _, _ = apply_norm("bn", arrays, train=False)
  np.testing.assert_allclose(y, arrays["bn/y_eval"], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("norm", ["rms", "ln", "bn"])
def test_half_precision_keeps_float32_statistics(parity, norm):
  arrays = parity("norm")
  y, _, _ = apply_norm(norm, arrays, dtype=jnp.bfloat16)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    y, apply_norm(norm, arrays)[0].astype(jnp.bfloat16)
  )


def test_no_norm_is_the_identity():
  x = jnp.arange(3.0)
  norm = make_norm("none", train=True, dtype=jnp.float32, name="norm")
  assert norm(x) is x
  with pytest.raises(ValueError, match=", ".join(NORMS)):
    make_norm("group", train=True, dtype=jnp.float32, name="norm")


class InSetup(nn.Module):
  def setup(self):
    self.activate = SparseActivation(scope="channel")

  def __call__(self, x, keep_ratio):
    return self.activate(x, keep_ratio)


class AsAttribute(nn.Module):
  activate: nn.Module

  def __call__(self, x, keep_ratio):
    return self.activate(x, keep_ratio)


@pytest.mark.parametrize(
  "module", [InSetup(), AsAttribute(SparseActivation(scope="channel"))]
)
def test_sparse_activation_as_a_submodule(module):
  x = jax.random.normal(jax.random.key(0), (2, 3, 3, 8))
  np.testing.assert_array_equal(
    module.apply({}, x, 0.3), sparse_activation(x, 0.3, scope="channel")
  )


@pytest.mark.parametrize(
  "arguments",
  [
    {"activation": "a"},
    {"scope": "a"},
    {"score": "a"},
    {"implementation": "a"},
  ],
)
def test_sparse_activation_module_checks_its_names(arguments):
  (name,) = arguments
  with pytest.raises(ValueError, match=f"{name} must be one of"):
    SparseActivation(**arguments)


def test_sparse_activation_module_is_the_function():
  x = jax.random.normal(jax.random.key(0), (2, 3, 3, 8))
  for arguments in (
    {},
    {"activation": "gelu", "scope": "channel", "score": "magnitude"},
  ):
    layer = SparseActivation(**arguments)
    expected = sparse_activation(x, 0.3, **arguments)
    np.testing.assert_array_equal(layer.apply({}, x, 0.3), expected)
    np.testing.assert_array_equal(layer.clone().apply({}, x, 0.3), expected)
