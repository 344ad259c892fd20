"""How far a share of a sample may lie from that of all."""

import math


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
  r"""Wilson's interval of a share, by default of 95 %.

  .. math:: \frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}
     {1 + z^2 / n}

  It stays within 0 and 1, and has a width where the share is one of them. Each
  of the sample counts as drawn by itself, which the tokens of a text are not.

  Args:
    share: p, of the sample.
    count: n, of the sample; at least 1.
    z: quantile of the normal distribution.

  Returns:
    Its ends; NaN for a NaN.

  Example:
    >>> print("{:.3f} {:.3f}".format(*wilson(0.5, 100)))
    0.404 0.596

  Source: Wilson, Probable inference, 1927.
  """
  middle = share + z * z / (2 * count)
  reach = z * math.sqrt(
    share * (1 - share) / count + z * z / (4 * count * count)
  )
  whole = 1 + z * z / count
  return (middle - reach) / whole, (middle + reach) / whole
