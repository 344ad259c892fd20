"""What stands between a residual stream and its next state: norm, MLP, mask."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range, one_of
from sparse_regimes.layers import (
  RestrictedLayerNorm,
  SparseActivation,
  SynapticNoise,
  ZerothBias,
  tap,
)
from sparse_regimes.masks.activations import (
  Activation,
  get_activation,
  mixed_activation,
  shifted,
)
from sparse_regimes.masks.masking import check_site
from sparse_regimes.masks.statistics import nonzero_fraction

ZEROTH_BIASES = ("none", "input", "output")
MLP_NORMS = ("ln", "restricted", "restricted_finetune")


class MLPBlock(nn.Module):
  r"""Norm, zeroth bias, linear, sparse activation and, if asked, a linear.

  .. math:: X = \mathrm{LN}(z) + D, \quad P = X K^T + b, \quad
     A = \sigma(P) \odot M, \quad Z = A V^T + c

  An analysis sees X, P, A and Z under the names ``input``, ``pre``, ``hidden``
  and ``output``; the last only if there is a second linear.

  Attributes:
    width: n, of the hidden layer.
    features: of the output; None ends with A.
    activation: see :func:`sparse_regimes.sparse_activation`.
    budget_scope: ``global`` or ``channel``.
    score: ``value`` or ``magnitude``.
    norm: ``ln``, ``restricted`` (no bias) or ``restricted_finetune`` (a frozen
      bias); see :class:`sparse_regimes.layers.RestrictedLayerNorm`.
    zeroth_bias: ``none``, ``input`` (as in the paper) or ``output`` (as in its
      later program).
    noise: of :class:`sparse_regimes.layers.SynapticNoise`; 0 is none.
    differentiable_noise: as in the first version.
    shift_x: moves the activation along its argument.
    shift_y: moves its value.
    mix_steps: over so many training steps the activation goes from ReLU to
      ``activation``, for fine-tuning; 0 has it at once. Steps are counted in
      ``batch_stats``.
    dropout: rate behind the activation.
    dtype: of the computation.
    implementation: of the selection.
    mask: ``topk``, or another one of :func:`sparse_regimes.sparse_activation`.
    gradient: ``masked``, ``straight_through`` or ``dense``.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.models import MLPBlock
    >>> block, z = MLPBlock(width=8, features=4), jnp.eye(4)
    >>> variables = block.init(jax.random.key(0), z, 1.0, train=False)
    >>> y, nonzero = block.apply(variables, z, 0.25, train=False)
    >>> print(y.shape, nonzero)
    (4, 4) 0.25

  Source: Peng et al., arXiv 2309.03004.
  """

  width: int
  features: int | None = None
  activation: str | Activation = "relu"
  budget_scope: str = "global"
  score: str = "value"
  norm: str = "ln"
  zeroth_bias: str = "none"
  noise: float = 0.0
  differentiable_noise: bool = False
  shift_x: float = 0.0
  shift_y: float = 0.0
  mix_steps: int = 0
  dropout: float = 0.0
  dtype: Any = jnp.float32
  implementation: str | None = None
  mask: str = "topk"
  gradient: str = "masked"

  def __post_init__(self) -> None:
    super().__post_init__()
    check_block(self)
    in_range("width", self.width, 1, 2**20)

  @nn.compact
  def __call__(
    self, z: jax.Array, keep_ratio: ArrayLike, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Maps ``[b, ..., d]`` to ``[b, ..., features]`` and a nonzero fraction."""
    x = self._norm()(z)
    if self.zeroth_bias == "input":
      x = ZerothBias(dtype=self.dtype, name="bias")(x)
    x = tap(self, "input", x)
    pre = self._linear(self.width, "linear1")(x, train=train)
    hidden = SparseActivation(
      self._activation(train=train),
      self.budget_scope,
      self.score,
      self.implementation,
      mask=self.mask,
      gradient=self.gradient,
      name="site",
    )(pre, keep_ratio)
    stats = nonzero_fraction(hidden)
    y = nn.Dropout(self.dropout, deterministic=not train)(hidden)
    if self.features is not None:
      y = self._linear(self.features, "linear2")(y, train=train)
    if self.zeroth_bias == "output":
      y = ZerothBias(dtype=self.dtype, name="bias")(y)
    # Without a second linear there is nothing behind the site to look at.
    return (y if self.features is None else tap(self, "output", y)), stats

  def _activation(self, *, train: bool) -> str | Activation:
    """A name where there is one: ReLU has a faster mask."""
    if not (self.shift_x or self.shift_y or self.mix_steps):
      return self.activation
    function = shifted(
      get_activation(self.activation), self.shift_x, self.shift_y
    )
    if not self.mix_steps:
      return function
    steps = self.variable("batch_stats", "steps", jnp.zeros, (), jnp.int32)
    mix = steps.value / self.mix_steps
    if train and not self.is_initializing():
      steps.value += 1
    return functools.partial(mixed_activation, mix=mix, second=function)

  def _norm(self) -> Any:
    if self.norm == "ln":
      return nn.LayerNorm(1e-6, dtype=self.dtype, name="norm")
    frozen = self.norm == "restricted_finetune"
    return RestrictedLayerNorm(frozen, dtype=self.dtype, name="norm")

  def _linear(self, features: int, name: str) -> SynapticNoise:
    return SynapticNoise(
      features,
      self.noise,
      self.differentiable_noise,
      dtype=self.dtype,
      name=name,
    )


def check_mlp(module: Any) -> None:
  """Raises a ``ValueError`` naming the first attribute that is wrong."""
  check_block(module)
  in_range("num_classes", module.num_classes, 1)


def check_block(module: Any) -> None:
  """The same of what networks hand on to their blocks."""
  check_site(
    *(module.activation, module.budget_scope, module.score),
    *(module.implementation, module.mask, module.gradient),
  )
  one_of("norm", module.norm, MLP_NORMS)
  one_of("zeroth_bias", module.zeroth_bias, ZEROTH_BIASES)
  in_range("noise", module.noise, 0)
  in_range("shift_x", module.shift_x, -1e6, 1e6)
  in_range("shift_y", module.shift_y, -1e6, 1e6)
  in_range("dropout", module.dropout, 0, 1, below=True)
  in_range("mix_steps", module.mix_steps, 0, 2**31 - 1)


def mlp_arguments(module: Any) -> dict[str, Any]:
  """What a network hands on to its blocks."""
  own = {"width", "features", "parent", "name"}
  names = {field.name for field in dataclasses.fields(MLPBlock)} - own
  return {name: getattr(module, name) for name in names}
