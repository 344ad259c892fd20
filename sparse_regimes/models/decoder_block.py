"""A block of a decoder: attention, and an MLP whose activations are masked."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparse_regimes.layers import (
  GatheredDense,
  SparseActivation,
  token_product,
)
from sparse_regimes.masks.activations import Activation, get_activation
from sparse_regimes.masks.budget import num_kept
from sparse_regimes.masks.statistics import nonzero_fraction

# By name; without biases.
TOKEN_NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


class DecoderBlock(nn.Module):
  """Attention and MLP of a :class:`sparse_regimes.models.Transformer`.

  Its attributes are those of the network, with ``hidden_width`` of the MLP.
  """

  depth: int
  width: int
  heads: int
  hidden_width: int
  positions: str
  norm: str
  activation: str | Activation
  gated: bool
  score: str
  dropout: float
  dtype: Any
  implementation: str | None
  mask: str
  gradient: str
  token_groups: int

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    where: jax.Array,
    attention_ratio: jax.Array | None,
    mlp_ratio: jax.Array,
    train: bool,
    seen: tuple[jax.Array, jax.Array] | None,
    num_gathered: int | None,
  ) -> tuple[jax.Array, list[jax.Array], Any]:
    """``(x, nonzero fractions, what attention has seen)``."""
    stats = []
    dropout = nn.Dropout(self.dropout, deterministic=not train)
    y, seen = self._attend(self._norm("attention_norm")(x), where, train, seen)
    if attention_ratio is not None:
      y = self._site("identity", "attention")(y, attention_ratio)
      stats.append(nonzero_fraction(y))
    y = self._linear(self.width, "attention_out", is_last=True)(y)
    x = x + dropout(y)
    y = self._norm("mlp_norm")(x)
    up, down = self._products(mlp_ratio)
    hidden = self._linear(self.hidden_width, "up")(y, product=up)
    if self.gated:
      gate = self._linear(self.hidden_width, "gate")(y, product=up)
      if self.activation == "drelu":
        hidden = jax.nn.relu(hidden) * jax.nn.relu(gate)
      else:
        hidden = hidden * get_activation(self.activation)(gate)
      hidden = self._site("identity", "mlp")(hidden, mlp_ratio)
    else:
      hidden = self._site(self.activation, "mlp")(hidden, mlp_ratio)
    stats.append(nonzero_fraction(hidden))
    is_one = hidden.shape[0] * hidden.shape[1] == 1
    y = self._linear(self.width, "down", is_last=True)(
      hidden, num_gathered if is_one else None, down
    )
    return x + dropout(y), stats, seen

  def _attend(
    self,
    x: jax.Array,
    where: jax.Array,
    train: bool,
    seen: tuple[jax.Array, jax.Array] | None,
  ) -> tuple[jax.Array, Any]:
    heads = (self.heads, self.width // self.heads)
    qkv = self._linear(3 * self.width, "qkv")(x)
    query, key, value = (
      part.reshape(*x.shape[:2], *heads) for part in jnp.split(qkv, 3, axis=-1)
    )
    if self.positions == "rotary":
      query, key = rotated(query, where), rotated(key, where)
    if seen is not None:
      # These tokens go behind those that were seen.
      at = (0, where[0], 0, 0)
      key, value = (
        jax.lax.dynamic_update_slice(old, new.astype(old.dtype), at)
        for old, new in zip(seen, (key, value), strict=True)
      )
      seen = key, value
    before = jnp.arange(key.shape[1])[None] <= where[:, None]
    rate = self.dropout if train else 0.0
    y = nn.dot_product_attention(
      query,
      key,
      value,
      mask=before[None, None],
      dropout_rng=self.make_rng("dropout") if rate else None,
      dropout_rate=rate,
      deterministic=not rate,
      broadcast_dropout=False,
      dtype=self.dtype,
    )
    return y.reshape(x.shape), seen

  def _products(self, keep_ratio: jax.Array) -> tuple[Any, Any]:
    """Of the MLP's first and second linears."""
    m = self.token_groups
    if not m:
      return jnp.matmul, jnp.matmul
    n = num_kept(m, keep_ratio)
    return (
      lambda x, w: token_product(x, w, n, m, "gradient"),
      lambda x, w: token_product(x, w, n, m, "inputs"),
    )

  def _norm(self, name: str) -> nn.Module:
    return make_norm(self.norm, self.dtype, name)

  def _site(self, activation: str | Activation, name: str) -> SparseActivation:
    return SparseActivation(
      activation,
      "channel",
      self.score,
      self.implementation,
      mask=self.mask,
      gradient=self.gradient,
      name=name,
    )

  def _linear(
    self, features: int, name: str, *, is_last: bool = False
  ) -> GatheredDense:
    init = self._last() if is_last else nn.initializers.normal(0.02)
    return GatheredDense(
      features, dtype=self.dtype, kernel_init=init, name=name
    )

  def _last(self) -> Any:
    # So that the sum over all branches begins as small as one.
    return nn.initializers.normal(0.02 / math.sqrt(2 * self.depth))


def make_norm(kind: str, dtype: Any, name: str) -> nn.Module:
  """A norm of a token's features, without a bias."""
  # Two passes, which are more exact, are the faster ones on CPU, too.
  more = {"use_fast_variance": True}
  if kind == "layer":
    more["use_bias"] = False
  return TOKEN_NORMS[kind](epsilon=1e-5, dtype=dtype, name=name, **more)


def rotated(x: jax.Array, where: jax.Array) -> jax.Array:
  r"""Turns pairs of features by angles that grow with the position.

  .. math:: (a_i, b_i) \mapsto (a_i \cos\theta - b_i \sin\theta,\
     a_i \sin\theta + b_i \cos\theta), \quad \theta = p \cdot 10000^{-2i/d}

  Args:
    x: ``[b, t, heads, d]``, d even; a are the first d / 2 features.
    where: p, int ``[t]``.

  Returns:
    The shape and dtype of ``x``.

  Source: Su et al., arXiv 2104.09864.
  """
  half = x.shape[-1] // 2
  steps = jnp.arange(half, dtype=jnp.float32) / half
  place = where.astype(jnp.float32)[None, :, None, None]
  angle = place * (10_000.0**-steps)[None, None, None]
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
  return turned.astype(x.dtype)
