"""Which of several budgets is a site's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def at_site(keep_ratio: ArrayLike, site: int | jax.Array) -> jax.Array:
  """The budget of one site: a scalar is every site's, a vector has one each.

  Sites are numbered from 0 in the order in which a network calls them.

  Args:
    keep_ratio: real scalar or ``[num_sites]``, Python or traced.
    site: its number; it may be traced.

  Returns:
    float32 scalar.

  Raises:
    ValueError: for a vector that has no such entry.

  Example:
    >>> import jax.numpy as jnp
    >>> from sparse_regimes import at_site
    >>> print(at_site(0.5, 3), at_site(jnp.array([0.1, 0.2]), 1))
    0.5 0.2

  Source: ours.
  """
  ratio = jnp.asarray(keep_ratio, jnp.float32)
  if ratio.ndim == 0:
    return ratio
  # In a scan over layers the number is traced, and its range not known.
  is_known = not isinstance(site, jax.core.Tracer)
  if ratio.ndim > 1 or (is_known and not 0 <= site < ratio.shape[0]):
    raise ValueError(
      f"keep_ratio must be a scalar or have an entry a site, got shape"
      f" {ratio.shape} at site {site}"
    )
  return ratio[site]


def check_sites(keep_ratio: Any, num_sites: int) -> None:
  """Raises a ``ValueError`` unless there is a budget for each site."""
  shape = np.shape(keep_ratio)
  if shape not in ((), (num_sites,)):
    raise ValueError(
      f"keep_ratio must be a scalar or have an entry for each of {num_sites}"
      f" sites, got shape {shape}"
    )
