"""Means over seeds, and differences between arms seed by seed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
  """A mean over seeds.

  Attributes:
    n: how many.
    mean: of them.
    sd: standard deviation (n - 1); NaN for one.
    low: of the 95 % interval by Student's t; NaN for one.
    high: of it.
  """

  n: int
  mean: float
  sd: float
  low: float
  high: float


def estimate(values: Sequence[float]) -> Estimate:
  """Mean, standard deviation and 95 % t-interval of what is not NaN.

  Example:
    >>> print("{:.0f} {:.0f} {:.0f} {:.1f} {:.1f}".format(*estimate([1, 2, 3])))
    3 2 1 -0.5 4.5
  """
  sample = _known(values)
  n = len(sample)
  mean = float(sample.mean()) if n else math.nan
  if n < 2:
    return Estimate(n, mean, math.nan, math.nan, math.nan)
  sd = float(sample.std(ddof=1))
  if not sd:
    return Estimate(n, mean, sd, mean, mean)
  interval = stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
  return Estimate(n, mean, sd, float(interval.low), float(interval.high))


def sign_flip_p(differences: Sequence[float]) -> float:
  """The two-sided permutation test of paired differences.

  If arms do not differ, each difference is as likely as its negative: p is the
  share of the 2^n sign patterns whose mean is as far from 0, exact up to 16
  pairs and from 100,000 patterns above. NaN for one pair, and NaN is no pair.

  Example:
    >>> sign_flip_p([0.1, 0.2, 0.3, 0.4, 0.5])
    0.0625
  """
  sample = _known(differences)
  n = len(sample)
  if n < 2:
    return math.nan
  test = stats.permutation_test(
    (sample,),
    np.mean,
    permutation_type="samples",
    vectorized=True,
    n_resamples=100_000,
    rng=0,
  )
  return float(test.pvalue)


def _known(values: Sequence[float]) -> np.ndarray:
  sample = np.asarray(values, np.float64)
  return sample[~np.isnan(sample)]
