"""The ranges that every strategy's budget arguments must keep."""

from sparse_regimes.errors import in_range

# Batches and decisions are counted in int32.
MAX_COUNT = 2**31 - 1


def check_budget(
  keep_init: float,
  keep_min: float,
  keep_max: float,
  tighten_pct: float,
  decide_every: int,
) -> None:
  """Raises a ``ValueError`` naming the first argument out of its range."""
  in_range("keep_min", keep_min, 0, 1)
  in_range("keep_max", keep_max, 0, 1)
  if keep_min > keep_max:
    raise ValueError(
      f"keep_min must be at most keep_max, got keep_min {keep_min} and"
      f" keep_max {keep_max}"
    )
  in_range("keep_init", keep_init, keep_min, keep_max)
  in_range("tighten_pct", tighten_pct, 0, 1, below=True)
  in_range("decide_every", decide_every, 1, MAX_COUNT)
