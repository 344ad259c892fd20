"""A decoder of text, masked in every MLP and, by option, behind attention."""

import dataclasses
from dataclasses import InitVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range, one_of
from sparse_regimes.layers import GatheredDense
from sparse_regimes.masks.activations import Activation
from sparse_regimes.masks.masking import check_site
from sparse_regimes.masks.sites import at_site, check_sites
from sparse_regimes.models.decoder_block import (
  TOKEN_NORMS,
  DecoderBlock,
  make_norm,
)

POSITIONS = ("learned", "rotary")


class Cache(NamedTuple):
  """What attention has seen: of each block, keys and values by position.

  Attributes:
    keys: ``[depth, b, context, heads, width / heads]``.
    values: likewise.
    length: how many positions are filled, int32 scalar.
  """

  keys: jax.Array
  values: jax.Array
  length: jax.Array


class Transformer(nn.Module):
  r"""A causal, pre-norm transformer whose budgets are those of a token.

  .. math:: z \leftarrow z + \mathrm{MHA}(\mathrm{norm}(z)), \quad
     z \leftarrow z + V (\sigma(K\, \mathrm{norm}(z)) \odot M)

  or, ``gated``, :math:`z \leftarrow z + V (\sigma(G x) \odot K x \odot M)`. The
  mask M keeps the largest of a token's hidden activations. A budget over
  several tokens would let later ones decide which activations of earlier ones
  survive, so there is none.

  Attributes:
    depth: blocks.
    width: of a token.
    heads: of the attention; they divide the width.
    mlp_width: of the hidden layer; 0: four times the width, gated 8/3 times.
    positions: ``learned``, or ``rotary``.
    norm: ``layer`` or ``rms``, without a bias.
    activation: see :func:`sparse_regimes.sparse_activation`; ``squared_relu``
      is one.
    gated: two linears before the mask, of which one is a gate: with ``silu``
      it is SwiGLU.
    tied: embedding and output share their weights.
    mask_attention: a mask on what heads put out, before it is projected.
    scope: ``channel``: the budget of a token; there is no other.
    score: ``value`` or ``magnitude``.
    dropout: rate, of attention, of both branches and of the embedding.
    vocabulary: different tokens.
    context: tokens that are seen at once, at most.
    dtype: of the computation.
    implementation: of the selection.
    mask: ``topk``, or another one of :func:`sparse_regimes.sparse_activation`.
    gradient: ``masked``, ``straight_through`` or ``dense``.
    token_groups: M, tokens of which N count in the gradient of an MLP's
      weights, N as the keep ratio says; 0: all. See
      :func:`sparse_regimes.layers.token_product`.

  Raises:
    ValueError: on construction, naming the attribute that is wrong; on a call,
      for more tokens than the context has. Those that a cache has no room for
      are not noticed.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.models import Transformer
    >>> model = Transformer(depth=2, width=32, heads=2, context=8)
    >>> tokens = jnp.zeros((1, 8), jnp.int32)
    >>> variables = model.init(jax.random.key(0), tokens, 1.0)
    >>> logits, stats = model.apply(variables, tokens, 0.2)
    >>> logits.shape, stats.shape
    ((1, 8, 256), (2,))

  Source: Radford et al., "Language Models are Unsupervised Multitask Learners"
    (2019); Shazeer, arXiv 2002.05202 (gates); Su et al., arXiv 2104.09864
    (rotary positions); the masks are ours.
  """

  depth: int = 4
  width: int = 128
  heads: int = 4
  mlp_width: int = 0
  positions: str = "learned"
  norm: str = "layer"
  activation: str | Activation = "gelu"
  gated: bool = False
  tied: bool = True
  mask_attention: bool = False
  scope: InitVar[str | None] = None
  score: str = "magnitude"
  dropout: float = 0.0
  vocabulary: int = 256
  context: int = 256
  dtype: Any = jnp.float32
  implementation: str | None = None
  mask: str = "topk"
  gradient: str = "masked"
  token_groups: int = 0

  # Linen calls this again without the argument when it adopts a submodule.
  def __post_init__(self, scope: str | None = None) -> None:
    super().__post_init__()
    if scope not in (None, "channel"):
      raise ValueError(
        f"scope must be channel, the budget of a token, got {scope!r}: over"
        " several tokens later ones would decide what is left of earlier ones"
      )
    in_range("depth", self.depth, 1, 1000)
    in_range("width", self.width, 1, 2**20)
    in_range("heads", self.heads, 1, 1024)
    in_range("mlp_width", self.mlp_width, 0, 2**20)
    in_range("vocabulary", self.vocabulary, 1, 2**31 - 1)
    in_range("token_groups", self.token_groups, 0, 2**16)
    in_range("context", self.context, 1, 2**20)
    in_range("dropout", self.dropout, 0, 1, below=True)
    one_of("positions", self.positions, POSITIONS)
    one_of("norm", self.norm, TOKEN_NORMS)
    # Of two linears a ReLU each.
    activation = "relu" if self.activation == "drelu" else self.activation
    if self.activation == "drelu" and not self.gated:
      raise ValueError("activation drelu needs gated, got gated False")
    check_site(
      *(activation, "channel", self.score),
      *(self.implementation, self.mask, self.gradient),
    )
    if self.mask == "batch_topk":
      raise ValueError(
        "mask batch_topk shares a budget over tokens: later ones would decide"
        " what is left of earlier ones; threshold has none to share"
      )
    if self.width % self.heads:
      raise ValueError(
        f"heads must divide the width of {self.width}, got {self.heads}"
      )
    if self.positions == "rotary" and self.width // self.heads % 2:
      raise ValueError(
        "heads must leave each an even width for rotary positions, got"
        f" {self.heads} of {self.width}"
      )

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    keep_ratio: ArrayLike,
    train: bool = False,
    *,
    cache: Cache | None = None,
    num_gathered: int | None = None,
  ) -> tuple[jax.Array, Any]:
    """What comes after each token.

    Args:
      tokens: int ``[b, t]``.
      keep_ratio: real scalar or one a site, Python or traced.
      train: dropout (rng stream ``dropout``).
      cache: what was seen before; these tokens follow it.
      num_gathered: where there is one token, its MLPs read so many rows of
        their second linear; see :class:`sparse_regimes.layers.GatheredDense`.

    Returns:
      ``(logits, stats)``: float32 ``[b, t, vocabulary]``, and the nonzero
      fraction at each site, float32; with a cache ``(logits, cache)``.
    """
    length = tokens.shape[1]
    if length > self.context:
      raise ValueError(
        f"tokens must be at most the context of {self.context}, got {length}"
      )
    check_sites(keep_ratio, len(self.site_names))
    start = jnp.zeros((), jnp.int32) if cache is None else cache.length
    where = start + jnp.arange(length, dtype=jnp.int32)
    small = nn.initializers.normal(0.02)
    embed = nn.Embed(
      self.vocabulary,
      self.width,
      dtype=self.dtype,
      embedding_init=small,
      name="embed",
    )
    x = embed(tokens)
    if self.positions == "learned":
      x = (
        x
        + nn.Embed(
          self.context,
          self.width,
          dtype=self.dtype,
          embedding_init=small,
          name="positions",
        )(where)[None]
      )
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    own = {field.name for field in dataclasses.fields(DecoderBlock)}
    shared = {name: getattr(self, name) for name in own - {"parent", "name"}}
    nonzero: list[jax.Array] = []
    caches = []
    for i in range(self.depth):
      seen = None if cache is None else (cache.keys[i], cache.values[i])
      site = len(nonzero)
      if self.mask_attention:
        attended = at_site(keep_ratio, site)
        site += 1
      else:
        attended = None
      x, stats, seen = DecoderBlock(**shared, name=f"block{i}")(
        x, where, attended, at_site(keep_ratio, site), train, seen, num_gathered
      )
      nonzero += stats
      caches.append(seen)
    x = make_norm(self.norm, self.dtype, "norm")(x)
    if self.tied:
      flat = x.reshape(-1, self.width)
      logits = (flat @ embed.embedding.T.astype(self.dtype)).reshape(
        *tokens.shape, self.vocabulary
      )
    else:
      logits = GatheredDense(
        self.vocabulary, dtype=self.dtype, kernel_init=small, name="head"
      )(x)
    logits = logits.astype(jnp.float32)
    if cache is None:
      return logits, jnp.stack(nonzero)
    keys, values = (jnp.stack(each) for each in zip(*caches, strict=True))
    return logits, Cache(keys, values, start + length)

  def empty_cache(self, batch_size: int = 1) -> Cache:
    """Of a text that has not begun."""
    shape = (
      *(self.depth, batch_size, self.context, self.heads),
      self.width // self.heads,
    )
    zeros = jnp.zeros(shape, self.dtype)
    return Cache(zeros, zeros, jnp.zeros((), jnp.int32))

  @property
  def hidden_width(self) -> int:
    """Of an MLP: ``mlp_width``, or what follows from the width."""
    if self.mlp_width:
      return self.mlp_width
    # As many weights with a gate as without.
    return -(-8 * self.width // 3) if self.gated else 4 * self.width

  @property
  def site_names(self) -> tuple[str, ...]:
    """Of the sites, in the order of ``stats`` and of budgets."""
    kinds = ("attention", "mlp") if self.mask_attention else ("mlp",)
    return tuple(
      f"block{i}_{kind}" for i in range(self.depth) for kind in kinds
    )

  def multiply_adds(self, length: int) -> tuple[int, dict[str, int]]:
    """Of a forward pass of ``length`` tokens, all and by site.

    By site they are those that read its activations, which a mask of zeros
    could save.
    """
    square = length * self.width**2
    linear = length * self.width * self.hidden_width
    attention = 4 * square + 2 * length**2 * self.width
    block = attention + (3 if self.gated else 2) * linear
    total = self.depth * block + length * self.width * self.vocabulary
    reads = {"attention": square, "mlp": linear}
    return total, {n: reads[n.rpartition("_")[2]] for n in self.site_names}
