"""An actor and its critic, masked in their hidden layers."""

from dataclasses import InitVar
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range, one_of
from sparse_regimes.layers import SparseActivation
from sparse_regimes.masks.activations import Activation
from sparse_regimes.masks.masking import check_site
from sparse_regimes.masks.rules import remembers
from sparse_regimes.masks.sites import at_site, check_sites
from sparse_regimes.masks.statistics import nonzero_fraction

NETWORKS = ("mlp", "conv")


class ActorCritic(nn.Module):
  """Two networks that share nothing, or a convolution.

  ``mlp``: the actor and the critic have ``depth`` hidden layers each. ``conv``:
  a convolution of 16 filters of 3 x 3 over the image, which both share, and a
  hidden layer each; the network of MinAtar. Every hidden layer is a site.

  Attributes:
    network: ``mlp`` or ``conv``.
    width: of a hidden layer.
    depth: hidden layers of ``mlp``.
    activation: see :func:`sparse_regimes.sparse_activation`.
    scope: ``global``: one budget an observation; ``channel``: one a position.
    score: ``value`` or ``magnitude``.
    num_actions: to choose from.
    dtype: of the computation.
    implementation: of the selection.
    mask: ``topk``, or another one of :func:`sparse_regimes.sparse_activation`.
    gradient: ``masked``, ``straight_through`` or ``dense``.

  Raises:
    ValueError: on construction, naming the attribute that is wrong.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.models import ActorCritic
    >>> model = ActorCritic(width=8, num_actions=2)
    >>> x = jnp.zeros((3, 4))
    >>> variables = model.init(jax.random.key(0), x, 1.0)
    >>> (logits, value), stats = model.apply(variables, x, 0.5)
    >>> logits.shape, value.shape, stats.shape
    ((3, 2), (3,), (4,))

  Source: the networks of PureJaxRL (Lu et al., 2022) and of MinAtar (Young and
    Tian, arXiv 1903.03176).
  """

  network: str = "mlp"
  width: int = 64
  depth: int = 2
  activation: str | Activation = "tanh"
  scope: InitVar[str | None] = None
  score: str = "magnitude"
  num_actions: int = 2
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
    one_of("network", self.network, NETWORKS)
    in_range("width", self.width, 1, 2**20)
    in_range("depth", self.depth, 1, 1000)
    in_range("num_actions", self.num_actions, 1, 2**20)
    check_site(
      *(self.activation, self.budget_scope, self.score),
      *(self.implementation, self.mask, self.gradient),
    )
    if remembers(self.mask):
      raise ValueError(
        f"mask must be one that remembers nothing where an actor plays, got"
        f" {self.mask!r}"
      )

  @nn.compact
  def __call__(
    self, observation: jax.Array, keep_ratio: ArrayLike, train: bool = False
  ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """What to do, and what it is worth.

    Args:
      observation: ``[b, ...]``; for ``conv`` ``[b, h, w, c]``.
      keep_ratio: real scalar or one a site, Python or traced.
      train: nothing depends on it.

    Returns:
      ``((logits, values), stats)``: float32 ``[b, num_actions]`` and ``[b]``,
      and the nonzero fraction at each site.
    """
    del train
    check_sites(keep_ratio, len(self.site_names))
    nonzero: list[jax.Array] = []

    def site(x: jax.Array) -> jax.Array:
      number = len(nonzero)
      y = SparseActivation(
        self.activation,
        self.budget_scope,
        self.score,
        self.implementation,
        mask=self.mask,
        gradient=self.gradient,
        name=self.site_names[number],
      )(x, at_site(keep_ratio, number))
      nonzero.append(nonzero_fraction(y))
      return y

    x = observation.astype(self.dtype)
    depth = self.depth
    if self.network == "conv":
      if x.ndim != 4:
        raise ValueError(
          "network conv needs observations [h, w, c], got"
          f" {list(observation.shape[1:])}"
        )
      # As a product of patches: a convolution in a loop is slow on CPU.
      x = nn.Dense(16, dtype=self.dtype, name="conv")(patches(x, 3))
      x, depth = site(x), 1
    x = x.reshape(len(x), -1)
    outputs = []
    for head, features, scale in (
      ("actor", self.num_actions, 0.01),
      ("critic", 1, 1.0),
    ):
      h = x
      for i in range(depth):
        h = site(self._linear(self.width, 2**0.5, f"{head}{i}")(h))
      outputs.append(self._linear(features, scale, head)(h))
    logits, value = (x.astype(jnp.float32) for x in outputs)
    return (logits, value[:, 0]), jnp.stack(nonzero)

  def _linear(self, features: int, scale: float, name: str) -> nn.Dense:
    init = nn.initializers.orthogonal(scale)
    return nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)

  @property
  def site_names(self) -> tuple[str, ...]:
    """Of the sites, in the order of ``stats`` and of budgets."""
    is_conv = self.network == "conv"
    first = ("conv_site",) if is_conv else ()
    depth = 1 if is_conv else self.depth
    return first + tuple(
      f"{head}{i}_site" for head in ("actor", "critic") for i in range(depth)
    )


def patches(images: jax.Array, side: int) -> jax.Array:
  """All squares of an image: ``[b, h - side + 1, w - side + 1, side**2 * c]``.

  Example:
    >>> patches(jnp.arange(9.0).reshape(1, 3, 3, 1), 2)[0, 0, 0]
    Array([0., 1., 3., 4.], dtype=float32)
  """
  height, width = (n - side + 1 for n in images.shape[1:3])
  parts = [
    images[:, i : i + height, j : j + width]
    for i in range(side)
    for j in range(side)
  ]
  return jnp.concatenate(parts, axis=-1)
