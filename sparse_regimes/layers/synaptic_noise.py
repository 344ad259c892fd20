"""A linear layer whose weights are redrawn around their value."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparse_regimes.errors import in_range

RNG_STREAM = "synapse"


def synaptic_noise(
  rng: jax.Array,
  x: jax.Array,
  kernel: jax.Array,
  *,
  rho: float = 0.1,
  differentiable_scale: bool = False,
) -> jax.Array:
  r"""What noise on each weight, redrawn for every token, adds to an output.

  .. math:: s \lVert x \rVert_2\, \varepsilon, \qquad
     s = \rho \sqrt{\mathrm{mean}(W^2)}, \quad
     \varepsilon \sim \mathcal{N}(0, I)

  It has the law of :math:`(s E) x` with independent standard normal E.

  Args:
    rng: a key.
    x: input of the linear, ``[..., d]``.
    kernel: ``[d, n]``.
    rho: :math:`\rho`, at least 0.
    differentiable_scale: as in the first version: :math:`s = \rho\,
      \mathrm{mean}|W|`, and gradients pass through s and the norm. Otherwise
      none does.

  Returns:
    ``[..., n]``, of the dtype of ``x``.

  Raises:
    ValueError: for a negative ``rho``.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import synaptic_noise
    >>> noise = synaptic_noise(
    ...   jax.random.key(0), jnp.ones((1000, 4)), jnp.ones((4, 1)), rho=0.1
    ... )
    >>> print(f"{jnp.std(noise):.1f}")
    0.2

  Source: Peng et al., arXiv 2309.03004.
  """
  in_range("rho", rho, 0)
  size, weights = x.astype(jnp.float32), kernel.astype(jnp.float32)
  if differentiable_scale:
    scale = rho * jnp.mean(jnp.abs(weights))
  else:
    size, weights = jax.lax.stop_gradient((size, weights))
    scale = rho * jnp.sqrt(jnp.mean(jnp.square(weights)))
  square = jnp.sum(jnp.square(size), axis=-1, keepdims=True)
  # The root's slope at zero is infinite.
  is_zero = square == 0
  norm = jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))
  shape = (*x.shape[:-1], kernel.shape[-1])
  noise = scale * norm * jax.random.normal(rng, shape, jnp.float32)
  return noise.astype(x.dtype)


class SynapticNoise(nn.Module):
  r"""A dense layer with :func:`synaptic_noise` in training.

  .. math:: y = x W + b + s \lVert x \rVert_2\, \varepsilon

  Its parameters are those of ``flax.linen.Dense``; the rng stream is
  ``synapse``, which :func:`sparse_regimes.make_train_step` provides.

  Attributes:
    features: outputs.
    rho: scale of the noise, at least 0; 0 is a plain dense layer.
    differentiable_scale: as in the first version of the paper.
    kernel_init: of the weights.
    dtype: of the computation; parameters are float32.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sparse_regimes.layers import SynapticNoise
    >>> layer = SynapticNoise(3)
    >>> x = jnp.ones((2, 4))
    >>> variables = layer.init(jax.random.key(0), x, train=False)
    >>> y = layer.apply(
    ...   variables, x, train=True, rngs={"synapse": jax.random.key(1)}
    ... )
    >>> bool((y[0] != y[1]).all())
    True

  Source: Peng et al., arXiv 2309.03004.
  """

  features: int
  rho: float = 0.1
  differentiable_scale: bool = False
  kernel_init: Any = nn.initializers.lecun_normal()
  dtype: Any = jnp.float32

  def __post_init__(self) -> None:
    super().__post_init__()
    in_range("rho", self.rho, 0)

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps ``[..., d]`` to ``[..., features]``."""
    kernel = self.param(
      "kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32
    )
    bias = self.param(
      "bias", nn.initializers.zeros, (self.features,), jnp.float32
    )
    x = x.astype(self.dtype)
    y = x @ kernel.astype(self.dtype)
    y += jnp.broadcast_to(bias, y.shape).astype(self.dtype)
    if train and self.rho > 0:
      y += synaptic_noise(
        self.make_rng(RNG_STREAM),
        x,
        kernel,
        rho=self.rho,
        differentiable_scale=self.differentiable_scale,
      )
    return y
