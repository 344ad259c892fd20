"""Leaves of a pytree by their path: ``block0/norm/scale``."""

import re
from collections.abc import Callable
from typing import Any

import jax


def name_of(path: Any) -> str:
  """A path of :mod:`jax.tree_util`, its keys joined by slashes."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


def by_path(
  tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> dict[str, Any]:
  """Leaves by path, in the order of the numbers in their names.

  Args:
    tree: any pytree.
    is_leaf: as in ``jax.tree.map``.

  Example:
    >>> list(by_path({"layer10": {"w": 1}, "layer9": {"w": 2}}))
    ['layer9/w', 'layer10/w']
  """
  flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
  named = {name_of(path): leaf for path, leaf in flat}
  return {name: named[name] for name in sorted(named, key=_natural)}


def _natural(name: str) -> list[Any]:
  return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)]
