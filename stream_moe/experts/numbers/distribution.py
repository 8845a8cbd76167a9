"""Student's t with four degrees of freedom: what a predicted number is distributed by.

Its tails are heavy enough for the outliers of real targets, and density, distribution function and quantile are
closed forms without an exponential.
"""

from __future__ import annotations

import math

import numpy as np

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64

FREEDOM = 4.0
EDGE = 0.7363107781851077  # of the CRPS: 2 sqrt(4) / 3 B(1/2, 7/2) / B(1/2, 2)^2


@compiled(_nrt=False)
def log_density(y: float, location: float, scale: float) -> float:
    """Log of the density at y."""
    z = (y - location) / scale
    return math.log(0.375 / scale) - 2.5 * math.log1p(z * z / FREEDOM)


@compiled(_nrt=False)
def below(y: float, location: float, scale: float) -> float:
    """Probability of a number of at most y."""
    z = (y - location) / scale
    s = z / math.sqrt(FREEDOM + z * z)
    return 0.5 + 0.75 * s * (1.0 - s * s / 3.0)


@compiled(_nrt=False)
def standard_quantile(p: float) -> float:
    """Quantile of the law at location 0 and scale 1 (Shaw, Sampling Student's t distribution, 2006)."""
    if p == 0.5:
        return 0.0
    a = math.sqrt(4.0 * p * (1.0 - p))
    q = 2.0 * math.sqrt(math.cos(math.acos(a) / 3.0) / a - 1.0)
    return q if p > 0.5 else -q


@compiled(_nrt=False)
def crps(y: float, location: float, scale: float) -> float:
    """Continuous ranked probability score, in units of y; closed form after Jordan et al., scoringRules, 2019."""
    z = abs(y - location) / scale
    s = z / math.sqrt(FREEDOM + z * z)
    inside = 0.75 * s * (1.0 - s * s / 3.0)
    density = 0.375 * (1.0 + z * z / FREEDOM) ** -2.5
    return scale * (2.0 * z * inside + 2.0 * density * (FREEDOM + z * z) / 3.0 - EDGE)


@compiled(_nrt=False)
def pull(error: float, square: float) -> float:
    """Weight in [0, 1.25] of an error where the squared scale is `square`: the EM step of the law's scale."""
    return (FREEDOM + 1.0) / (FREEDOM + error * error / square)


@compiled(_nrt=False)
def mixture_quantile(p: float, weights: Float64, locations: Float64, scales: Float64, n: int) -> float:
    """Quantile of a mixture of n laws whose weights are above 0; bisection between those of its parts."""
    z = standard_quantile(p)
    low, high, total, width = np.inf, -np.inf, 0.0, np.inf
    for i in range(n):
        at = locations[i] + z * scales[i]
        low, high, width = min(low, at), max(high, at), min(width, scales[i])
        total += weights[i]
    for _ in range(60):
        middle = 0.5 * (low + high)
        if high - low <= 1e-3 * width or middle in (low, high):
            break
        mass = 0.0
        for i in range(n):
            mass += weights[i] * below(middle, locations[i], scales[i])
        if mass < p * total:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
