"""Where an analysis looks into a network, and differentiates it."""

import jax
from flax import linen as nn

VALUES = "taps"
PERTURBATIONS = "perturbations"


def tap(module: nn.Module, name: str, value: jax.Array) -> jax.Array:
  """Names a value inside a module; in training it is not there at all.

  With the collection ``taps`` mutable the value is stored. A variable of that
  name in the collection ``perturbations`` is added to it, so that the gradient
  with respect to that variable is the one with respect to the value.

  Args:
    module: of which it is called.
    name: unique in the module.
    value: any array.

  Returns:
    The value, perturbed if there is something to add.

  Raises:
    ValueError: if it is stored already, by another call of the module.

  Example:
    >>> import jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from sparse_regimes.layers import tap
    >>> class Net(nn.Module):
    ...   def __call__(self, x):
    ...     return tap(self, "doubled", 2 * x) + 1
    >>> y, seen = Net().apply({}, jnp.ones(2), mutable=["taps"])
    >>> print(y, seen["taps"]["doubled"])
    [3. 3.] [2. 2.]
  """
  if module.has_variable(PERTURBATIONS, name):
    value = value + module.get_variable(PERTURBATIONS, name)
  if module.is_mutable_collection(VALUES) and not module.is_initializing():
    if module.has_variable(VALUES, name):
      site = "/".join(module.path) or type(module).__name__
      raise ValueError(
        f"{site} must be called once to be looked into, got a second call; give"
        " each call a module of its own"
      )
    module.sow(VALUES, name, value, reduce_fn=lambda _, x: x, init_fn=tuple)
  return value
