"""The pre-norm vision transformer, masked in every MLP."""

from dataclasses import InitVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range, one_of
from sparse_regimes.masks.activations import Activation
from sparse_regimes.masks.sites import at_site, check_sites
from sparse_regimes.models.mlp_block import MLPBlock, check_mlp, mlp_arguments

# Depth, width and heads.
SIZES = {"Ti": (12, 192, 3), "S": (12, 384, 6), "B": (12, 768, 12)}


class VisionTransformer(nn.Module):
  r"""ViT by size or by its numbers, for images of any size the patch divides.

  .. math:: z \leftarrow z + \mathrm{MHA}(\mathrm{LN}(z)), \quad
     z \leftarrow z + V \sigma(K\, \mathrm{LN}(z) + b) + c

  Patches, learned positions, ``depth`` blocks of attention and MLP, each behind
  a layer norm; the mean over tokens and a linear head. One site a block: the
  MLP's hidden activations, with one budget an image over all tokens.

  Attributes:
    size: ``Ti``, ``S`` or ``B``; sets what is 0 below.
    depth: blocks.
    width: of a token.
    heads: of the attention; they divide the width.
    mlp_width: of the hidden layer; 0 is four times the width.
    patch: side of a patch in pixels.
    num_classes: outputs.
    The others: see :class:`sparse_regimes.models.mlp_block.MLPBlock`; ``scope``
      is its ``budget_scope``.

  Raises:
    ValueError: on construction, naming the attribute that is wrong; on a call,
      for images that the patch does not divide, or that have not as many
      patches as the first ones.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.models import VisionTransformer
    >>> model = VisionTransformer(depth=2, width=32, heads=2, patch=4)
    >>> images = jnp.zeros((2, 16, 16, 3))
    >>> variables = model.init(jax.random.key(0), images, 1.0)
    >>> logits, stats = model.apply(variables, images, 0.2, train=False)
    >>> logits.shape, stats.shape
    ((2, 10), (2,))

  Source: Dosovitskiy et al., arXiv 2010.11929; masked as Peng et al., arXiv
    2309.03004, measure it.
  """

  size: str = "Ti"
  depth: int = 0
  width: int = 0
  heads: int = 0
  mlp_width: int = 0
  patch: int = 4
  num_classes: int = 10
  activation: str | Activation = "relu"
  scope: InitVar[str | None] = None
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
  # Linen keeps ``self.scope`` for itself, so the argument is stored here.
  budget_scope: str = "global"

  # Linen calls this again without the argument when it adopts a submodule.
  def __post_init__(self, scope: str | None = None) -> None:
    if scope is not None:
      self.budget_scope = scope
    super().__post_init__()
    one_of("size", self.size, SIZES)
    in_range("depth", self.depth, 0, 1000)
    in_range("width", self.width, 0, 2**20)
    in_range("heads", self.heads, 0, 1024)
    in_range("mlp_width", self.mlp_width, 0, 2**20)
    in_range("patch", self.patch, 1, 1024)
    _, width, heads, _ = self._shape()
    if width % heads:
      raise ValueError(f"heads must divide the width of {width}, got {heads}")
    check_mlp(self)

  @nn.compact
  def __call__(
    self, images: jax.Array, keep_ratio: ArrayLike, train: bool = False
  ) -> tuple[jax.Array, jax.Array]:
    """Classifies a batch at a keep ratio.

    Args:
      images: ``[b, h, w, c]``.
      keep_ratio: real scalar or one a site, Python or traced.
      train: dropout and noise (rng streams ``dropout``, ``synapse``).

    Returns:
      ``(logits, stats)``: float32 ``[b, num_classes]``, and the nonzero
      fraction at each site, float32 ``[depth]``.
    """
    depth, width, heads, mlp_width = self._shape()
    tokens = self._tokens(*images.shape[1:3])
    x = nn.Conv(
      width,
      (self.patch, self.patch),
      strides=self.patch,
      padding="VALID",
      dtype=self.dtype,
      name="embed",
    )(images.astype(self.dtype))
    x = x.reshape(x.shape[0], -1, width)
    if self.has_variable("params", "positions"):
      known: int = self.get_variable("params", "positions").shape[0]
      if tokens != known:
        raise ValueError(
          f"images must have the {known} patches of the first ones, for which"
          f" there are positions and zeroth biases, got {tokens}"
        )
    positions = self.param(
      "positions", nn.initializers.normal(0.02), x.shape[1:], jnp.float32
    )
    x = x + jnp.broadcast_to(positions, x.shape).astype(self.dtype)
    check_sites(keep_ratio, depth)
    nonzero = []
    for i in range(depth):
      y = nn.LayerNorm(1e-6, dtype=self.dtype, name=f"block{i}_norm")(x)
      x = x + nn.MultiHeadDotProductAttention(
        heads, dtype=self.dtype, name=f"block{i}_attention"
      )(y)
      block = MLPBlock(
        mlp_width, width, name=f"block{i}_mlp", **mlp_arguments(self)
      )
      y, stats = block(x, at_site(keep_ratio, i), train=train)
      x = x + y
      nonzero.append(stats)
    x = nn.LayerNorm(1e-6, dtype=self.dtype, name="norm")(x)
    x = jnp.mean(x, axis=1, dtype=jnp.float32)
    logits = nn.Dense(self.num_classes, name="head")(x)
    return logits, jnp.stack(nonzero)

  @property
  def site_names(self) -> tuple[str, ...]:
    """Of the sites, in the order of ``stats`` and of budgets."""
    return tuple(f"block{i}_mlp" for i in range(self._shape()[0]))

  @property
  def restricted_scales(self) -> tuple[str, ...]:
    """Paths for :func:`sparse_regimes.projections.restricted_scale`."""
    if self.norm == "ln":
      return ()
    return tuple(f"block{i}_mlp/norm/scale" for i in range(self._shape()[0]))

  def multiply_adds(
    self, height: int, width: int
  ) -> tuple[int, dict[str, int]]:
    """As :meth:`sparse_regimes.WideResNet.multiply_adds`, for RGB images."""
    depth, features, _, mlp_width = self._shape()
    tokens = self._tokens(height, width)
    attention = 4 * tokens * features**2 + 2 * tokens**2 * features
    linear = tokens * features * mlp_width
    total = tokens * 3 * self.patch**2 * features + features * self.num_classes
    total += depth * (attention + 2 * linear)
    # The second linear of an MLP reads its hidden activations.
    return total, dict.fromkeys(self.site_names, linear)

  def _tokens(self, height: int, width: int) -> int:
    if height % self.patch or width % self.patch:
      raise ValueError(
        f"patch must divide images of {height} x {width}, got {self.patch}"
      )
    return (height // self.patch) * (width // self.patch)

  def _shape(self) -> tuple[int, int, int, int]:
    """Depth, width, heads and hidden width, the size's where they are 0."""
    depth, width, heads = SIZES[self.size]
    width = self.width or width
    return (
      self.depth or depth,
      width,
      self.heads or heads,
      self.mlp_width or 4 * width,
    )
