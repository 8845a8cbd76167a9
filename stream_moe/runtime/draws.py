"""Random numbers that are functions of a key alone: nothing to checkpoint, the same in any split into blocks."""

from __future__ import annotations

import math

import numpy as np

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int64

PART = 2**20  # numbers that `choose` looks at together


@compiled
def uniform(seed: int, member: int, index: int) -> float:
    """Return a number in [0, 1) that looks random in all three arguments.

    Two rounds of splitmix64 (Steele et al., Fast splittable pseudorandom number generators, 2014).
    """
    z = np.uint64(seed) * np.uint64(0xD1342543DE82EF95) + np.uint64(member)
    for word in (np.uint64(0), np.uint64(index)):
        z = (z + word + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


def poisson_steps(mean: float) -> Float64:
    """Cumulative probabilities of 0, 1, 2, ... under a Poisson law, as far as doubles tell them from 1.

    Examples
    --------
    >>> poisson_steps(1.0)[:3].round(3).tolist()
    [0.368, 0.736, 0.92]
    """
    terms = [math.exp(-mean)]
    while len(terms) < 8 * (mean + 4):
        terms.append(terms[-1] * mean / len(terms))
    return np.minimum(np.cumsum(terms), 1.0)


@compiled
def poisson(steps: Float64, u: float) -> float:
    """Invert the law: the first count whose cumulative probability exceeds u in [0, 1)."""
    count = 0
    while count < steps.shape[0] - 1 and u >= steps[count]:
        count += 1
    return np.float64(count)


def uniforms(seed: int, member: int, begin: int, end: int) -> Float64:
    """Return `uniform` of every index from begin to end, float64 [end - begin].

    Examples
    --------
    >>> bool((uniforms(7, 3, 5, 9) == [uniform(7, 3, j) for j in range(5, 9)]).all())
    True
    """
    z = np.full(end - begin, (seed * 0xD1342543DE82EF95 + member) % 2**64, np.uint64)
    for word in (np.zeros(1, np.uint64), np.arange(begin, end, dtype=np.uint64)):
        z = (z + word + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * (1.0 / 9007199254740992.0)


def choose(seed: int, member: int, n: int, share: float) -> Int64:
    """Return ceil(share n) of the numbers 0..n-1, ascending: those whose `uniform` is least.

    It goes through them a part at a time, so that it takes memory for those it returns.

    Examples
    --------
    >>> choose(1, 0, 10, 0.7).tolist() != choose(1, 1, 10, 0.7).tolist()
    True
    >>> len(choose(1, 0, 10, 0.7))
    7
    """
    k = math.ceil(share * n - 1e-9)
    least, numbers = np.empty(0), np.empty(0, np.int64)
    for begin in range(0, n, PART):
        end = min(begin + PART, n)
        drawn = np.append(least, uniforms(seed, member, begin, end))
        which = np.append(numbers, np.arange(begin, end))
        if 0 < k < len(drawn):
            near = drawn <= np.partition(drawn, k - 1)[k - 1]
            drawn, which = drawn[near], which[near]
        rank = np.argsort(drawn, kind="stable")[:k]  # of equal draws the earlier number comes first
        least, numbers = drawn[rank], which[rank]
    return np.sort(numbers)
