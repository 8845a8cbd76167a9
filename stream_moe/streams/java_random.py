"""java.util.Random, compiled: the 48-bit linear congruential generator of the Java documentation.

The state is one int64 in an array, so that a kernel may be stopped and resumed between any two draws.
Source: class documentation of `java.util.Random` (Java SE), which fixes every formula used here;
Knuth, The Art of Computer Programming, volume 2, section 3.2.1, and for the Gaussian section 3.4.1 C.
"""

from __future__ import annotations

import math

import numpy as np

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64, Int64

MULTIPLIER = 0x5DEECE66D
MASK = (1 << 48) - 1


def seeded(seed: int, n: int = 1) -> Int64:
    """Return int64 [n]: n generators in the state of `new Random(seed)`.

    Examples
    --------
    >>> state = seeded(1)
    >>> [int(next_int(state, 0, 10)) for _ in range(5)]
    [5, 8, 7, 3, 4]
    """
    return np.full(n, (seed ^ MULTIPLIER) & MASK, np.int64)


@compiled(inline="always")
def next_bits(state, slot, bits):  # type: ignore[no-untyped-def]
    """Return the next `bits` (at most 31) random bits of generator `slot`."""
    # int64 products wrap, which leaves the low 48 bits right.
    state[slot] = (state[slot] * MULTIPLIER + 0xB) & MASK
    return state[slot] >> (48 - bits)


@compiled
def next_int(state, slot, bound):  # type: ignore[no-untyped-def]
    """Return a uniform integer of 0..bound-1."""
    if bound & (bound - 1) == 0:
        return (bound * next_bits(state, slot, 31)) >> 31
    while True:
        bits = next_bits(state, slot, 31)
        value = bits % bound
        # Java detects the incomplete last run of `bound` values by 32-bit overflow.
        if bits - value + bound - 1 < 1 << 31:
            return value


@compiled
def next_double(state, slot):  # type: ignore[no-untyped-def]
    """Return a uniform float64 of [0, 1) with 53 random bits."""
    high = next_bits(state, slot, 26)
    return ((high << 27) + next_bits(state, slot, 27)) * (1.0 / (1 << 53))


@compiled
def next_gaussian(state, slot, spare):  # type: ignore[no-untyped-def]
    """Return a standard normal float64; `spare` float64 [1] keeps the second of a pair, else NaN."""
    if not math.isnan(spare[0]):
        value = spare[0]
        spare[0] = np.nan
        return value
    while True:
        a = 2.0 * next_double(state, slot) - 1.0
        b = 2.0 * next_double(state, slot) - 1.0
        norm = a * a + b * b
        if 0.0 < norm < 1.0:
            scale = math.sqrt(-2.0 * math.log(norm) / norm)
            spare[0] = b * scale
            return a * scale


@compiled
def _fill_doubles(state, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = next_double(state, 0)


def doubles(state: Int64, n: int) -> Float64:
    """Return the next n uniform float64 [n] of generator 0."""
    out = np.empty(n)
    _fill_doubles(state, out)
    return out
