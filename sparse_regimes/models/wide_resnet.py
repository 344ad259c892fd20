"""The pre-activation Wide ResNet, masked at every activation."""

import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import InitVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict
from jax.typing import ArrayLike

from sparse_regimes.errors import in_range, one_of
from sparse_regimes.layers import NORMS, SparseActivation, make_norm
from sparse_regimes.masks.activations import Activation
from sparse_regimes.masks.masking import check_site
from sparse_regimes.masks.sites import at_site, check_sites
from sparse_regimes.masks.statistics import nonzero_fraction

_CONV_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_BLOCK_PART = re.compile(r"block[123]\.\d+\.(norm[12]|conv[12]|shortcut)")
_HEAD_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class WideResNet(nn.Module):
  """WRN-depth-widen for small images; every activation keeps its top k.

  A 3x3 stem of 16 channels; three groups of ``n = (depth - 4) / 6`` blocks at
  16, 32 and 64 times ``widen`` channels with strides 1, 2 and 2; a last norm
  and activation; the mean over positions; a linear head. Convolutions have no
  bias. ``2 * 3n + 1`` activation sites (25 in WRN-28-4), each with its own
  selection at the one ``keep_ratio``, or at its own if it is a vector.

  Attributes:
    depth: 6n + 4: 10, 16, 22, 28, ...
    widen: channel factor, at least 1.
    num_classes: outputs.
    norm: ``rms``, ``ln``, ``bn`` or ``none``.
    activation: see :func:`sparse_regimes.sparse_activation`.
    scope: ``global`` or ``channel``.
    score: ``value`` or ``magnitude``.
    dropout: rate between the two convolutions of a block, in ``[0, 1)``.
    dtype: of the computation; parameters are float32.
    implementation: of the selection; None is the fastest here.
    mask: ``topk``, or another one of :func:`sparse_regimes.sparse_activation`.
    gradient: ``masked``, ``straight_through`` or ``dense``.

  Raises:
    ValueError: on construction, naming the attribute that is wrong.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import WideResNet
    >>> model = WideResNet(depth=10, widen=1)
    >>> images = jnp.zeros((2, 32, 32, 3))
    >>> variables = jax.jit(model.init)(jax.random.key(0), images, 1.0)
    >>> logits, stats = model.apply(variables, images, 0.2, train=False)
    >>> logits.shape, stats.shape
    ((2, 10), (7,))

  Source: Zagoruyko and Komodakis, "Wide Residual Networks", arXiv 1605.07146;
    masks and initialisation as in the program of Wang, arXiv 2603.03131.
  """

  depth: int
  widen: int
  num_classes: int = 10
  norm: str = "rms"
  activation: str | Activation = "relu"
  scope: InitVar[str | None] = None
  score: str = "value"
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
    if self.depth not in range(10, 10_000, 6):
      raise ValueError(
        f"depth must be 6n + 4 (10, 16, 22, 28, ...), got {self.depth!r}"
      )
    in_range("widen", operator.index(self.widen), 1, 1024)
    in_range("num_classes", self.num_classes, 1)
    in_range("dropout", self.dropout, 0, 1, below=True)
    one_of("norm", self.norm, NORMS)
    check_site(
      *(self.activation, self.budget_scope, self.score),
      *(self.implementation, self.mask, self.gradient),
    )

  @nn.compact
  def __call__(
    self, images: jax.Array, keep_ratio: ArrayLike, train: bool = False
  ) -> tuple[jax.Array, jax.Array]:
    """Classifies a batch at a keep ratio.

    Args:
      images: normalised, ``[b, h, w, 3]``.
      keep_ratio: real scalar or one a site, Python or traced.
      train: dropout (rng stream ``dropout``) and batch statistics.

    Returns:
      ``(logits, stats)``: float32 ``[b, num_classes]``, and the nonzero
      fraction at each activation site from input to output, float32
      ``[num_sites]``.
    """
    check_sites(keep_ratio, len(self.site_names))
    nonzero: list[jax.Array] = []

    def norm_and_activate(x: jax.Array, norm: str) -> jax.Array:
      normed = make_norm(self.norm, train=train, dtype=self.dtype, name=norm)(x)
      y = SparseActivation(
        *(self.activation, self.budget_scope, self.score, self.implementation),
        mask=self.mask,
        gradient=self.gradient,
      )(normed, at_site(keep_ratio, len(nonzero)))
      nonzero.append(nonzero_fraction(y))
      return y

    def conv(channels: int, size: int, stride: int, name: str) -> nn.Conv:
      # Explicit padding: "SAME" would pad strided convolutions on one side.
      padding = size // 2
      return nn.Conv(
        channels,
        (size, size),
        strides=stride,
        padding=((padding, padding), (padding, padding)),
        use_bias=False,
        kernel_init=_CONV_INIT,
        dtype=self.dtype,
        name=name,
      )

    def block(x: jax.Array, channels: int, stride: int, name: str) -> jax.Array:
      y = norm_and_activate(x, f"{name}_norm1")
      y = conv(channels, 3, stride, f"{name}_conv1")(y)
      y = nn.Dropout(self.dropout, deterministic=not train)(y)
      y = norm_and_activate(y, f"{name}_norm2")
      y = conv(channels, 3, 1, f"{name}_conv2")(y)
      if stride != 1 or x.shape[-1] != channels:
        x = conv(channels, 1, stride, f"{name}_shortcut")(x)
      return x + y

    x = conv(16, 3, 1, "stem")(images.astype(self.dtype))
    for name, channels, stride in self._blocks():
      x = block(x, channels, stride, name)
    x = norm_and_activate(x, "norm")
    x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    logits = nn.Dense(self.num_classes, kernel_init=_HEAD_INIT, name="head")(x)
    return logits, jnp.stack(nonzero)

  @property
  def site_names(self) -> tuple[str, ...]:
    """Of the sites, in the order of ``stats`` and of budgets."""
    blocks = [name for name, _, _ in self._blocks()]
    return (*(f"{b}_norm{i}" for b in blocks for i in (1, 2)), "norm")

  def multiply_adds(
    self, height: int, width: int
  ) -> tuple[int, dict[str, int]]:
    """The arithmetic of a forward pass, for each image.

    Args:
      height: of the images.
      width: of the images.

    Returns:
      Multiply-adds of all convolutions and the head; and of those that read a
      masked activation, by site, from input to output. An activation of 0
      makes its share of the latter superfluous.

    Example:
      >>> from sparse_regimes import WideResNet
      >>> total, by_site = WideResNet(28, 4).multiply_adds(32, 32)
      >>> total, len(by_site), by_site["group1_block0_norm1"]
      (845597184, 25, 9437184)
    """
    total = 9 * 3 * 16 * height * width
    by_site: dict[str, int] = {}
    before = 16
    for name, channels, stride in self._blocks():
      # Padding by one: a stride of 2 halves and rounds up.
      height, width = -(-height // stride), -(-width // stride)
      positions = height * width
      by_site[f"{name}_norm1"] = 9 * before * channels * positions
      by_site[f"{name}_norm2"] = 9 * channels * channels * positions
      if stride != 1 or before != channels:
        total += before * channels * positions
      before = channels
    # What the head reads is averaged first.
    by_site["norm"] = 0
    return total + sum(by_site.values()) + before * self.num_classes, by_site

  def _blocks(self) -> Iterator[tuple[str, int, int]]:
    """Name, channels and stride of each block."""
    for group, stride in enumerate((1, 2, 2), start=1):
      channels = 2 ** (group - 1) * 16 * self.widen
      for i in range((self.depth - 4) // 6):
        yield f"group{group}_block{i}", channels, stride if i == 0 else 1


def from_reference(
  arrays: Mapping[str, ArrayLike],
) -> dict[str, dict[str, Any]]:
  """Variables of :class:`WideResNet` from the reference's parameter names.

  ``block2.0.conv1.weight`` becomes ``params/group2_block0_conv1/kernel``,
  ``fc.bias`` becomes ``params/head/bias``, running statistics go to
  ``batch_stats``. Convolutions are HWIO and linear kernels ``(in, out)``
  already. A prefix up to ``params/`` is dropped.

  Args:
    arrays: name to array, as in ``tests/parity/wrn.npz``.

  Returns:
    ``{"params": ...}``, with ``"batch_stats"`` if there are any.

  Raises:
    ValueError: for a name that is none of the reference's, a name given twice,
      or no names.

  Example:
    >>> import numpy as np
    >>> from sparse_regimes.models.wide_resnet import from_reference
    >>> from_reference({"conv1.weight": np.zeros((3, 3, 3, 16))})[
    ...   "params"]["stem"]["kernel"].shape
    (3, 3, 3, 16)
  """
  flat: dict[tuple[str, ...], jax.Array] = {}
  for name, array in arrays.items():
    *modules, leaf = name.rpartition("params/")[2].split(".")
    if leaf == "num_batches_tracked":
      continue
    path = _reference_path(modules, leaf)
    if path is None or path in flat:
      raise ValueError(
        "arrays must hold each parameter of one reference network once, got"
        f" {name!r}{'' if path is None else ' twice'}"
      )
    flat[path] = jnp.asarray(np.asarray(array, np.float32))
  if not flat:
    raise ValueError("arrays must hold a network's parameters, got none")
  return unflatten_dict(flat)


def _reference_path(modules: list[str], leaf: str) -> tuple[str, ...] | None:
  match modules:
    case ["conv1"]:
      module = "stem"
    case ["fc"]:
      module = "head"
    case ["norm"]:
      module = "norm"
    case [group, index, part] if _BLOCK_PART.fullmatch(
      f"{group}.{index}.{part}"
    ):
      module = f"group{group.removeprefix('block')}_block{index}_{part}"
    case _:
      return None
  is_norm = "norm" in module
  match leaf:
    case "weight":
      return "params", module, "scale" if is_norm else "kernel"
    case "bias":
      return "params", module, "bias"
    case "running_mean" | "running_var":
      return "batch_stats", module, leaf.removeprefix("running_")
    case _:
      return None
