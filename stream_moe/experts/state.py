"""What the experts without a tree have in common: arrays of fixed shape as state, and running moments."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.experts.compiled import CompiledExpert
from stream_moe.ranges import COUNT, FINITE, Range, named
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Arrays, Snapshot, fill
from stream_moe.types import Float32, Float64, Int32

MOST_CATEGORIES = 4096  # of one feature with a row of numbers of their own; target encoding sees the others
WILD, SETTLED = 100.0, 32  # deviations; values before these mean anything


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of each feature, [d] each; Welford (1962)."""

    n: Float64
    mean: Float64
    m2: Float64


MOMENTS = named(Moments, n=COUNT, mean=FINITE, m2=FINITE)


def no_moments(n_features: int) -> Moments:
    return Moments(np.zeros(n_features), np.zeros(n_features), np.zeros(n_features))


@compiled(_nrt=False)
def take_in(moments: Moments, row: Float32, n_categories: Int32) -> None:
    """Add a row to the moments of its numeric features; a missing value adds nothing.

    A value beyond WILD deviations counts as one at WILD: one wild value must not hide the feature for good.
    """
    for j in range(row.shape[0]):
        if n_categories[j] == 0 and not math.isnan(row[j]):
            value = np.float64(row[j])
            gap = value - moments.mean[j]
            if moments.n[j] >= SETTLED:
                limit = WILD * math.sqrt(moments.m2[j] / moments.n[j])
                if limit > 0.0 and abs(gap) > limit:
                    gap = math.copysign(limit, gap)
                    value = moments.mean[j] + gap
            moments.n[j] += 1.0
            moments.mean[j] += gap / moments.n[j]
            moments.m2[j] += gap * (value - moments.mean[j])


@compiled(_nrt=False)
def precision(moments: Moments, j: int) -> float:
    """1 / standard deviation of numeric feature j; 0 while it has not varied."""
    return math.sqrt(moments.n[j] / moments.m2[j]) if moments.m2[j] > 0.0 else 0.0


class ArrayState(CompiledExpert):
    """An expert whose whole state is NamedTuples of arrays, `_parts` by name."""

    def _parts(self) -> dict[str, Any]:
        raise NotImplementedError

    def _ranges(self) -> dict[str, dict[str, Range]]:
        """What each array may hold, by part and name; one that is not named may hold anything."""
        return {}

    def _arrays(self) -> Arrays:
        return {f"{part}.{name}": a for part, state in self._parts().items() for name, a in state._asdict().items()}

    @property
    def memory_bytes(self) -> int:
        return sum(array.nbytes for array in self._arrays().values())

    def snapshot(self) -> Snapshot:
        return {name: array.copy() for name, array in self._arrays().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        ranges = {f"{part}.{name}": r for part, each in self._ranges().items() for name, r in each.items()}
        fill(self._arrays(), snapshot[0], self.kind, ranges)


def keep(new: Any, old: Any) -> None:
    """Copy each array of NamedTuple `old` into the first corner of the same array of `new`."""
    for target, source in zip(new, old, strict=True):
        target[tuple(slice(n) for n in source.shape)] = source
