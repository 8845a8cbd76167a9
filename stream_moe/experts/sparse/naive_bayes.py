"""Multinomial naive Bayes over sparse rows, which forgets."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.experts.base import Expert
from stream_moe.experts.sparse.buckets import grown, new_rows, packed, unpacked
from stream_moe.experts.sparse.softmax import to_softmax
from stream_moe.ranges import AMOUNT, expect
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

SMOOTHING = 0.01  # of each name and class
LARGEST_UNIT = 1e100


class Counts(NamedTuple):
    """What fades is counted in a unit that grows instead: nothing is passed over to make it fade."""

    weight: Float64  # [R, C] values of each name by class
    total: Float64  # [C] their sums
    rows: Float64  # [C] rows of each class
    unit: Float64  # [2] what an event counts now; names met


@compiled
def step_rows(
    n: Counts, start: Int64, bucket: Int32, value: Float32, y: Int32, weight: Float64, memory: float, proba: Float64
) -> None:  # fmt: skip
    """Test, then count, row by row; a value below 0 counts as 0."""
    mask, n_classes = n.weight.shape[0] - 1, proba.shape[1]
    for t in range(y.shape[0]):
        entries, unit, most = range(start[t], start[t + 1]), n.unit[0], SMOOTHING * max(n.unit[1], 1.0)
        for c in range(n_classes):
            proba[t, c] = math.log(n.rows[c] / unit + 1.0)
        for k in entries:
            i = bucket[k] & mask
            for c in range(n_classes):
                share = (n.weight[i, c] / unit + SMOOTHING) / (n.total[c] / unit + most)
                proba[t, c] += max(value[k], np.float32(0.0)) * math.log(share)
        to_softmax(proba[t], n.rows)
        if y[t] < 0 or weight[t] <= 0.0:
            continue
        n.unit[0] /= memory
        if n.unit[0] > LARGEST_UNIT:
            n.weight[:] /= n.unit[0]
            n.total[:] /= n.unit[0]
            n.rows[:] /= n.unit[0]
            n.unit[0] = 1.0
        more = weight[t] * n.unit[0]
        n.rows[y[t]] += more
        for k in entries:
            i, v = bucket[k] & mask, max(value[k], np.float32(0.0)) * more
            met = 0.0
            for c in range(n_classes):
                met += n.weight[i, c]
            n.unit[1] += met == 0.0 and v > 0.0
            n.weight[i, y[t]] += v
            n.total[y[t]] += v


class SparseNaiveBayes(Expert):
    """Multinomial naive Bayes: what share of a class's values each name has.

    Parameters
    ----------
    schema
        Of sparse rows: its classes.
    memory
        In (0, 1]: what is left of every count after each event.

    Notes
    -----
    Sources: McCallum and Nigam, A comparison of event models for naive Bayes text classification (1998); the small
    smoothing as of Lidstone (1920).

    Examples
    --------
    >>> from stream_moe.sparse_rows import SparseRows
    >>> rows = SparseRows.of([{"cheap": 1, "pills": 1}, {"minutes": 1, "meeting": 1}] * 50)
    >>> y, proba = np.arange(100, dtype=np.int32) % 2, np.empty((100, 2))
    >>> expert = SparseNaiveBayes(Schema((), ("ham", "spam"), sparse=True))
    >>> expert.step(rows, y, np.ones(100), proba)
    >>> bool((proba.argmax(1) == y)[2:].all())
    True
    """

    kind = "sparse-naive-bayes"

    def __init__(self, schema: Schema, *, memory: float = 0.9999) -> None:
        self._memory = memory
        c = self.n_classes = schema.n_classes
        self._counts = Counts(new_rows(c), np.zeros(c), np.zeros(c), np.array([1.0, 0.0]))

    def step(self, x: Any, y: Int32, weight: Float64, proba: Float64) -> None:
        """As `Expert.step`, with x of `SparseRows`."""
        step_rows(self._counts, x.start, x.bucket, x.value, y, weight, self._memory, proba)

    def grow(self, schema: Schema) -> None:
        """As `Expert.grow`; of sparse rows only the classes can become more."""
        old, c = self._counts, schema.n_classes
        more = (0, c - self.n_classes)
        self._counts = Counts(grown(old.weight, c), np.pad(old.total, more), np.pad(old.rows, more), old.unit)
        self.n_classes = c

    def snapshot(self) -> Snapshot:
        n = self._counts
        others = {"total": n.total.copy(), "counted": n.rows.copy(), "unit": n.unit.copy()}
        return packed({"weight": n.weight}) | others, {}

    def restore(self, snapshot: Snapshot) -> None:
        n, found = self._counts, snapshot[0]
        for name, mine in (("total", n.total), ("counted", n.rows), ("unit", n.unit)):
            mine[...] = expect(self.kind, found, name, np.float64, mine.shape, AMOUNT)
        unpacked({"weight": n.weight}, found, self.kind)

    @property
    def memory_bytes(self) -> int:
        """Of the names met, not of the room there is."""
        return 8 * self.n_classes * int(self._counts.unit[1])
