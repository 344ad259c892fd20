"""Norms over channels: those of the reference, and a restricted one."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparse_regimes.errors import one_of


class RMSNorm(nn.Module):
  r"""Root-mean-square norm over channels, with scale and bias.

  .. math:: y = x / \sqrt{\mathrm{mean}_c(x^2) + \epsilon} \cdot \gamma + \beta

  Unlike ``flax.linen.RMSNorm`` it has a bias, as the reference does.

  Attributes:
    epsilon: inside the root.
    dtype: of the result; the statistics are float32.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import RMSNorm
    >>> x = jnp.array([[3.0, 4.0]])
    >>> y, _ = RMSNorm().init_with_output(jax.random.key(0), x)
    >>> print(f"{y[0, 0]:.4f} {y[0, 1]:.4f}")
    0.8485 1.1314

  Source: the program of Wang, arXiv 2603.03131.
  """

  epsilon: float = 1e-8
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[..., c]`` to the same shape."""
    scale, bias = _scale_and_bias(self, x)
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    y = x * jax.lax.rsqrt(mean_square + self.epsilon)
    return (y * scale + bias).astype(self.dtype)


class BatchNorm(nn.Module):
  r"""Batch norm whose running variance is the unbiased one, as in PyTorch.

  In training, over the batch and all positions, n values a channel:

  .. math:: y = (x - \mu) / \sqrt{\sigma^2 + \epsilon} \cdot \gamma + \beta,
     \quad m \leftarrow (1 - \alpha) m + \alpha \mu,
     \quad v \leftarrow (1 - \alpha) v + \alpha \sigma^2 n / (n - 1)

  In evaluation m and v replace the batch's :math:`\mu` and :math:`\sigma^2`.
  ``flax.linen.BatchNorm`` averages the biased variance instead.

  Attributes:
    epsilon: inside the root.
    momentum: :math:`\alpha`, the weight of the new batch.
    dtype: of the result; the statistics are float32.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import BatchNorm
    >>> x = jnp.array([[1.0], [3.0]])
    >>> norm = BatchNorm()
    >>> y, state = norm.init_with_output(jax.random.key(0), x, train=True)
    >>> print(y.ravel().round(2), state["batch_stats"]["mean"])
    [-1.  1.] [0.]

  Source: the program of Wang, arXiv 2603.03131 (PyTorch's ``BatchNorm2d``).
  """

  epsilon: float = 1e-5
  momentum: float = 0.1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps ``[b, ..., c]`` to the same shape."""
    channels = x.shape[-1]
    scale, bias = _scale_and_bias(self, x)
    running_mean = self.variable(
      "batch_stats", "mean", jnp.zeros, channels, jnp.float32
    )
    running_var = self.variable(
      "batch_stats", "var", jnp.ones, channels, jnp.float32
    )
    x = x.astype(jnp.float32)
    if train:
      axes = tuple(range(x.ndim - 1))
      mean, var = jnp.mean(x, axes), jnp.var(x, axes)
      if not self.is_initializing():
        count = x.size // channels
        unbiased = var * (count / max(1, count - 1))
        running_mean.value += self.momentum * (mean - running_mean.value)
        running_var.value += self.momentum * (unbiased - running_var.value)
    else:
      mean, var = running_mean.value, running_var.value
    mean, var = _like(mean, x), _like(var, x)
    y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
    return (y * scale + bias).astype(self.dtype)


class RestrictedLayerNorm(nn.Module):
  r"""Layer norm whose scale may not shrink, before a masked MLP.

  .. math:: y = (x - \mathrm{mean}_c(x)) / \sqrt{\mathrm{var}_c(x) + \epsilon}
     \cdot \gamma + \beta

  The restriction :math:`\gamma \ge 1` is a projection of the optimizer:
  :func:`sparse_regimes.projections.restricted_scale`. From scratch there is no
  bias; for fine-tuning there is one that no gradient reaches.

  Attributes:
    frozen_bias: whether there is a bias.
    epsilon: inside the root.
    dtype: of the result; the statistics are float32.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import RestrictedLayerNorm
    >>> x = jnp.array([[1.0, 3.0]])
    >>> y, variables = RestrictedLayerNorm().init_with_output(
    ...   jax.random.key(0), x
    ... )
    >>> print(y.round(2), list(variables["params"]))
    [[-1.  1.]] ['scale']

  Source: Peng et al., arXiv 2309.03004, from its second version on.
  """

  frozen_bias: bool = False
  epsilon: float = 1e-6
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps ``[..., c]`` to the same shape."""
    shape = (x.shape[-1],)
    scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
    x = x.astype(jnp.float32)
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    y = (x - mean) * jax.lax.rsqrt(variance + self.epsilon)
    y = y * _like(scale, y)
    if self.frozen_bias:
      bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
      y += _like(jax.lax.stop_gradient(bias), y)
    return y.astype(self.dtype)


NORMS = ("rms", "ln", "bn", "none")


def make_norm(
  norm: str, *, train: bool, dtype: Any, name: str
) -> Callable[[jax.Array], jax.Array]:
  """The norm called ``norm``, to be called inside a compact module.

  Args:
    norm: ``rms``, ``ln`` (per position over channels, epsilon 1e-5), ``bn`` or
      ``none``.
    train: whether ``bn`` uses and updates batch statistics.
    dtype: of the result.
    name: of the submodule.

  Raises:
    ValueError: for another name; the message lists these.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from sparse_regimes.layers import make_norm
    >>> class Net(nn.Module):
    ...   @nn.compact
    ...   def __call__(self, x, train=False):
    ...     return make_norm("ln", train=train, dtype=x.dtype, name="norm")(x)
    >>> x = jnp.array([[1.0, 3.0]])
    >>> y, _ = Net().init_with_output(jax.random.key(0), x)
    >>> print(y.round(2))
    [[-1.  1.]]
  """
  one_of("norm", norm, NORMS)
  if norm == "rms":
    return RMSNorm(dtype=dtype, name=name)
  if norm == "ln":
    layer_norm = nn.LayerNorm(1e-5, use_fast_variance=False, name=name)
    return lambda x: layer_norm(x.astype(jnp.float32)).astype(dtype)
  if norm == "bn":
    return functools.partial(BatchNorm(dtype=dtype, name=name), train=train)
  return lambda x: x


def _scale_and_bias(
  module: nn.Module, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Parameters for each channel of ``x``, of its rank."""
  shape = (x.shape[-1],)
  scale = module.param("scale", nn.initializers.ones, shape, jnp.float32)
  bias = module.param("bias", nn.initializers.zeros, shape, jnp.float32)
  return _like(scale, x), _like(bias, x)


def _like(channels: jax.Array, x: jax.Array) -> jax.Array:
  """``[c]`` as ``[1, ..., 1, c]``, of the rank of ``x``."""
  return channels.reshape((1,) * (x.ndim - 1) + channels.shape)
