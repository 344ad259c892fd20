"""The residual MLP with layer norms, masked at every hidden layer."""

from dataclasses import InitVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range
from sparse_regimes.masks.activations import Activation
from sparse_regimes.masks.sites import at_site, check_sites
from sparse_regimes.models.mlp_block import MLPBlock, check_mlp, mlp_arguments


class ResidualMLP(nn.Module):
  r"""The LN-MLP: a stem, hidden layers with a residual stream, a head.

  .. math:: z \leftarrow z + \sigma(W\, \mathrm{LN}(z) + b)

  Attributes:
    width: of every layer, at least 1.
    depth: hidden layers, at least 1.
    num_classes: outputs.
    The others: see :class:`sparse_regimes.models.mlp_block.MLPBlock`; ``scope``
      is its ``budget_scope``.

  Raises:
    ValueError: on construction, naming the attribute that is wrong.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.models import ResidualMLP
    >>> model = ResidualMLP(width=32)
    >>> images = jnp.zeros((2, 8, 8, 3))
    >>> variables = model.init(jax.random.key(0), images, 1.0)
    >>> logits, stats = model.apply(variables, images, 0.2, train=False)
    >>> logits.shape, stats.shape
    ((2, 10), (4,))

  Source: the small-scale experiments of Peng et al., arXiv 2309.03004.
  """

  width: int = 256
  depth: int = 4
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
    in_range("width", self.width, 1, 2**20)
    in_range("depth", self.depth, 1, 1000)
    check_mlp(self)

  @nn.compact
  def __call__(
    self, images: jax.Array, keep_ratio: ArrayLike, train: bool = False
  ) -> tuple[jax.Array, jax.Array]:
    """Classifies a batch at a keep ratio.

    Args:
      images: ``[b, ...]``.
      keep_ratio: real scalar or one a site, Python or traced.
      train: dropout and noise (rng streams ``dropout``, ``synapse``).

    Returns:
      ``(logits, stats)``: float32 ``[b, num_classes]``, and the nonzero
      fraction at each site, float32 ``[depth]``.
    """
    flat = images.reshape(images.shape[0], -1).astype(self.dtype)
    z = nn.Dense(self.width, dtype=self.dtype, name="stem")(flat)
    check_sites(keep_ratio, self.depth)
    nonzero = []
    for i in range(self.depth):
      block = MLPBlock(self.width, name=f"block{i}", **mlp_arguments(self))
      y, stats = block(z, at_site(keep_ratio, i), train=train)
      z = z + y
      nonzero.append(stats)
    z = nn.LayerNorm(1e-6, dtype=self.dtype, name="norm")(z)
    logits = nn.Dense(self.num_classes, name="head")(z.astype(jnp.float32))
    return logits, jnp.stack(nonzero)

  @property
  def site_names(self) -> tuple[str, ...]:
    """Of the sites, in the order of ``stats`` and of budgets."""
    return tuple(f"block{i}" for i in range(self.depth))

  @property
  def restricted_scales(self) -> tuple[str, ...]:
    """Paths for :func:`sparse_regimes.projections.restricted_scale`."""
    if self.norm == "ln":
      return ()
    return tuple(f"block{i}/norm/scale" for i in range(self.depth))

  def multiply_adds(
    self, height: int, width: int
  ) -> tuple[int, dict[str, int]]:
    """As :meth:`sparse_regimes.WideResNet.multiply_adds`, for RGB images.

    What a site feeds is added to the residual stream, so nothing reads its
    zeros alone.
    """
    total = 3 * height * width * self.width + self.width * self.num_classes
    total += self.depth * self.width**2
    return total, dict.fromkeys(self.site_names, 0)
