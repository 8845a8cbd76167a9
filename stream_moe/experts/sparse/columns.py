"""Which names of sparse rows are columns for the experts that need columns: those that tell the classes apart best.

A place once given is kept, so that a column never changes its meaning under a tree. An eighth of the places is given
when 50 labels of others than the most frequent class were learnt, and another at 100, 200, 400, ..., 6,400: each time
to the names without one that have the largest ratio of the variance between the classes to that within them. All of
it depends on the labels learnt before alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_moe.experts.sparse.buckets import grown, new_rows, packed, unpacked
from stream_moe.ranges import COUNT, Range, expect, index
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot
from stream_moe.sparse_rows import BUCKETS, SparseRows
from stream_moe.types import Float32, Float64, Int32, Int64

PART = "columns"
LARGEST = Range(
    float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)
)  # values are divided by it
# Labels learnt of others than the most frequent class, and the share of the places that is then given.
MARKS = tuple((50 * 2**k, (k + 1) / 8) for k in range(8))


class Known(NamedTuple):
    """What is known of each bucket."""

    largest: Float32  # [BUCKETS] absolute value so far: values are divided by it
    place: Int32  # [BUCKETS] its column, -1 = none
    total: Float64  # [R, C] sum of its values by class
    square: Float64  # [R, C] of their squares
    labels: Int64  # [C] learnt


@compiled
def look(
    known: Known, start: Int64, bucket: Int32, value: Float32, y: Int32, begin: int, mark: int, keep: bool,
    scaled: Float32, columns: Float32,
) -> int:  # fmt: skip
    """Scale the values of the rows from `begin` on, and write their columns; return behind which row a mark lies.

    scaled [m] and columns [n, K] are out. Nothing is learnt unless `keep`.
    """
    mask = known.total.shape[0] - 1
    for t in range(begin, y.shape[0]):
        columns[t] = 0.0
        for k in range(start[t], start[t + 1]):
            b = bucket[k]
            largest = max(known.largest[b], abs(value[k]))
            if keep:
                known.largest[b] = largest
            scaled[k] = value[k] / largest
            if known.place[b] >= 0:
                columns[t, known.place[b]] += scaled[k]
        if not keep or y[t] < 0:
            continue
        for k in range(start[t], start[t + 1]):
            i = bucket[k] & mask
            known.total[i, y[t]] += scaled[k]
            known.square[i, y[t]] += scaled[k] * scaled[k]
        known.labels[y[t]] += 1
        if known.labels.sum() - known.labels.max() == mark:
            return t + 1
    return y.shape[0]


class UsefulColumns:
    """The columns of sparse rows: K places, given to buckets as labels come.

    Parameters
    ----------
    places
        K.
    n_classes
        C.

    Examples
    --------
    >>> rows = SparseRows.of([{"the": 1, "pills": 1}, {"the": 1, "meeting": 1}] * 60)
    >>> columns, y = UsefulColumns(16, 2), np.arange(120, dtype=np.int32) % 2
    >>> x, scaled = columns.take(rows, y)
    >>> columns.given, float(x[98].sum()), float(x[118].sum())  # two from the 100th label on
    (2, 0.0, 1.0)
    """

    def __init__(self, places: int, n_classes: int) -> None:
        self._bucket = np.full(places, -1, np.int32)  # of each place
        self._known = Known(
            np.zeros(BUCKETS, np.float32), np.full(BUCKETS, -1, np.int32), new_rows(n_classes), new_rows(n_classes),
            np.zeros(n_classes, np.int64),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._bucket)

    @property
    def given(self) -> int:
        """How many places have a bucket."""
        return int((self._bucket >= 0).sum())

    @property
    def _others(self) -> int:
        """Labels learnt of others than the most frequent class."""
        return int(self._known.labels.sum() - self._known.labels.max())

    def take(self, rows: SparseRows, y: Int32, *, keep: bool = True) -> tuple[Float32, SparseRows]:
        """Return the columns of rows, float32 [n, K], and the rows with values scaled to at most 1.

        Parameters
        ----------
        rows, y
            Events and class indices int32 [n], -1 = no label.
        keep
            Learn from them.
        """
        columns, scaled = np.empty((len(rows), len(self._bucket)), np.float32), np.empty_like(rows.value)
        done = 0
        while done < len(rows):
            before = self._others
            mark, share = next(((mark, share) for mark, share in MARKS if mark > before), (-1, 0.0))
            done = look(self._known, rows.start, rows.bucket, rows.value, y, done, mark, keep, scaled, columns)
            if self._others == mark:
                self._give(int(share * len(self._bucket)))
        return columns, SparseRows(rows.start, rows.bucket, scaled)

    def _give(self, places: int) -> None:
        """Have so many places given, while there are buckets that differ between the classes."""
        known, first = self._known, self.given
        met = np.flatnonzero((known.largest > 0) & (known.place < 0))
        rows, labels = met % len(known.total), np.maximum(known.labels, 1.0)
        total, square = known.total[rows], known.square[rows].sum(1)
        explained = (total**2 / labels).sum(1)
        between = explained - total.sum(1) ** 2 / known.labels.sum()
        ratio = between / np.maximum(square - explained, 1e-9 * square + 1e-12)
        useful = np.flatnonzero(between > 1e-9)
        best = useful[np.argsort(-ratio[useful], kind="stable")][: max(places - first, 0)]
        self._bucket[first : first + len(best)] = met[best]
        known.place[met[best]] = np.arange(first, first + len(best))

    def grow(self, n_classes: int) -> None:
        """Take more classes."""
        old = self._known
        self._known = old._replace(
            total=grown(old.total, n_classes), square=grown(old.square, n_classes),
            labels=np.pad(old.labels, (0, n_classes - len(old.labels))),
        )  # fmt: skip

    def snapshot(self) -> Snapshot:
        known = self._known
        met = np.flatnonzero(known.largest).astype(np.int32)
        arrays = packed({"total": known.total, "square": known.square})
        arrays |= {"met": met, "largest": known.largest[met], "bucket": self._bucket.copy()}
        return arrays | {"labels": known.labels.copy()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; CheckpointError where it is of other places or classes."""
        found, known = snapshot[0], self._known
        self._bucket[:] = expect(PART, found, "bucket", np.int32, self._bucket.shape, index(BUCKETS, none=True))
        known.labels[:] = expect(PART, found, "labels", np.int64, known.labels.shape, COUNT)
        met = expect(PART, found, "met", np.int32, (None,), index(BUCKETS))
        largest = expect(PART, found, "largest", np.float32, met.shape, LARGEST)
        known.largest[:], known.place[:] = 0.0, -1
        known.largest[met] = largest
        given = self._bucket >= 0
        known.place[self._bucket[given]] = np.flatnonzero(given)
        unpacked({"total": known.total, "square": known.square}, found, PART)
