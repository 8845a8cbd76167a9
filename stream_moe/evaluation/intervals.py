"""Confidence intervals of a mean over seeds or folds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from stream_moe.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean of n values, and where the mean of infinitely many is likely to lie; one value has no spread (NaN)."""

    n: int
    mean: float
    standard_deviation: float  # of the values
    low: float
    high: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval of the mean (Student, The probable error of a mean, 1908).

    It takes the values for independent draws of a normal distribution. Seeds are independent; folds share their
    training events, so that an interval over folds speaks of these events and tends to be too narrow.

    Parameters
    ----------
    values
        One score for each seed or fold.
    level
        How often the interval holds the mean, 0-1.

    Raises
    ------
    ConfigError
        If there is no value, or the level does not lie between 0 and 1.

    Examples
    --------
    >>> found = mean_interval([0.70, 0.72, 0.74])
    >>> round(found.mean, 3), round(found.standard_deviation, 3), round(found.low, 4), round(found.high, 4)
    (0.72, 0.02, 0.6703, 0.7697)
    """
    n = len(values)
    if n == 0 or not 0 < level < 1:
        raise ConfigError(f"interval of {n} values at level {level}; give at least one value, and a level in 0-1")
    mean = statistics.fmean(values)
    if n == 1:
        return Interval(1, mean, math.nan, math.nan, math.nan)
    from scipy.special import stdtrit  # a tenth of the import of scipy.stats

    deviation = statistics.stdev(values)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * deviation / math.sqrt(n)
    return Interval(n, mean, deviation, mean - half, mean + half)
