"""Which concept each event of a composed stream comes from.

There are two ramps in use for the same (position, width): `capymoa`, CapyMOA 0.15's composition in Python, which
changes only within width/2 of the position, and `moa`, MOA's ConceptDriftStream (Bifet et al., MOA, JMLR 11, 2010),
a sigmoid with unbounded tails that is at 12 and 88 % at those two ends.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np

from stream_moe.streams import java_random
from stream_moe.streams.specs import Drifts
from stream_moe.types import Float64, Int64

Draw = Callable[[int], Int64]
"""Gives int64 [n], the concepts of the next n events."""


def schedule(drifts: Drifts, concepts: int) -> Draw:
    """Return what draws the concepts of a stream's events, from its first on."""
    return _in_turn(drifts.every, drifts.widths[0], concepts) if drifts.every else _nested(drifts)


def _nested(drifts: Drifts) -> Draw:
    """Draw as MOA and CapyMOA nest concepts.

    The last drift chooses between the last concept and everything before it, and an inner drift counts, and draws
    a random number for, only the events that reach it.
    """
    counts = [0] * len(drifts.positions)
    # Both systems seed every drift with 1, whatever the seed of the concepts.
    uniforms = [_python_uniforms(1) if drifts.ramp == "capymoa" else _java_uniforms(1) for _ in counts]
    ramp = _capymoa_ramp if drifts.ramp == "capymoa" else _moa_ramp

    def draw(n: int) -> Int64:
        concepts = np.zeros(n, np.int64)
        left = np.arange(n)
        for drift in reversed(range(len(counts))):
            number = counts[drift] + np.arange(1, len(left) + 1)
            counts[drift] += len(left)
            after = uniforms[drift](len(left)) <= ramp(number, drifts.positions[drift], drifts.widths[drift])
            concepts[left[after]] = drift + 1
            left = left[~after]
        return concepts

    return draw


def _in_turn(every: int, width: int, concepts: int) -> Draw:
    """Draw as `_nested` would with a drift at each multiple of `every`, without end, concept 0 after the last one."""
    count, uniforms = 0, _python_uniforms(1)

    def draw(n: int) -> Int64:
        nonlocal count
        number = count + np.arange(1, n + 1)
        count += n
        # Windows do not overlap, so one drift at a time decides: the last whose window has begun.
        drift = (2 * number + width) // (2 * every)
        after = uniforms(n) <= _capymoa_ramp(number, drift * every, width)
        return np.where(drift > 0, drift - ~after, 0) % concepts

    return draw


def _moa_ramp(number: Int64, position: int, width: int) -> Float64:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (number - position) / width)))


def _capymoa_ramp(number: Int64, position: int | Int64, width: int) -> Float64:
    if width == 0:
        return np.where(number >= position, 1.0, 0.0)
    progress = (number - (position - width / 2)) / width
    inside = np.clip(progress, 0.0, 1.0)
    ramp = 1.0 / (1.0 + np.exp(-2.0 * math.log(99.0) * (inside - 0.5)))
    return np.where(progress <= 0.0, 0.0, np.where(progress >= 1.0, 1.0, ramp))


def _python_uniforms(seed: int) -> Callable[[int], Float64]:
    """Return what `random.Random(seed).random` would give, as arrays: both are MT19937 with 53 bits."""
    key = random.Random(seed).getstate()[1]  # noqa: S311 - as CapyMOA draws
    twister = np.random.RandomState()
    twister.set_state(("MT19937", np.array(key[:-1], np.uint32), key[-1], 0, 0.0))
    return twister.random_sample


def _java_uniforms(seed: int) -> Callable[[int], Float64]:
    state = java_random.seeded(seed)
    return lambda n: java_random.doubles(state, n)
