"""Linen modules: the sparse activation and the norms of the reference."""

import functools
from collections.abc import Callable
from dataclasses import InitVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from sparse_regimes.activations import ACTIVATIONS, get_activation
from sparse_regimes.errors import one_of
from sparse_regimes.metrics import site_sums
from sparse_regimes.selection import (
  IMPLEMENTATIONS,
  SCOPES,
  SCORES,
  sparse_activation,
)


class SparseActivation(nn.Module):
  """:func:`sparse_regimes.sparse_activation` as a module without parameters.

  Attributes:
    activation: ``relu``, ``leakyrelu``, ``elu``, ``gelu``, ``silu``,
      ``softplus`` or ``identity``.
    scope: ``global`` (one budget per example) or ``channel`` (one per
      position).
    score: rank by ``value`` or ``magnitude``.
    implementation: of the selection; None is the fastest here.

  With the collection ``intermediates`` mutable it stores a
  :class:`sparse_regimes.metrics.SiteSums` under ``site``.

  Example:
    >>> layer = SparseActivation(activation="relu")
    >>> layer.apply({}, jnp.array([[1.0, 2.0, 3.0, -4.0]]), 0.5)
    Array([[0., 2., 3., 0.]], dtype=float32)

  Source: Wang, arXiv 2603.03131.
  """

  activation: str = "relu"
  scope: InitVar[str | None] = None
  score: str = "value"
  implementation: str | None = None
  # Linen keeps ``self.scope`` for itself, so the argument is stored here.
  budget_scope: str = "global"

  # Linen calls this again without the argument when it adopts a submodule.
  def __post_init__(self, scope: str | None = None) -> None:
    if scope is not None:
      self.budget_scope = scope
    super().__post_init__()
    one_of("activation", self.activation, ACTIVATIONS)
    one_of("scope", self.budget_scope, SCOPES)
    one_of("score", self.score, SCORES)
    one_of("implementation", self.implementation, (None, *IMPLEMENTATIONS))

  @nn.compact
  def __call__(self, x: jax.Array, keep_ratio: ArrayLike) -> jax.Array:
    """Maps ``[b, ...]`` to the same shape; ``keep_ratio`` may be traced."""
    y = sparse_activation(
      x,
      keep_ratio,
      activation=self.activation,
      scope=self.budget_scope,
      score=self.score,
      implementation=self.implementation,
    )
    # Measured only for those who collect it.
    if self.is_mutable_collection("intermediates"):
      dense = get_activation(self.activation)(x)
      self.sow("intermediates", "site", site_sums(dense, y))
    return y


class RMSNorm(nn.Module):
  r"""Root-mean-square norm over channels, with scale and bias.

  .. math:: y = x / \sqrt{\mathrm{mean}_c(x^2) + \epsilon} \cdot \gamma + \beta

  Unlike ``flax.linen.RMSNorm`` it has a bias, as the reference does.

  Attributes:
    epsilon: inside the root.
    dtype: of the result; the statistics are float32.

  Example:
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
