"""Rows of which few values are not zero, as texts of words are: only those are kept.

A name has no column of its own but a *bucket*, one of 2^18 by a hash of its text. So there is no vocabulary that
could grow without bound, and a name means the same in a file, in a dict and in a record, today and after a restart.
Two names share a bucket by chance: of 40,000 names about one in seven does.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_moe.errors import DataError
from stream_moe.types import Float32, Int32, Int64
from stream_moe.values import is_missing, number_of

BUCKETS = 2**18
REMEMBERED = 2**17  # names whose bucket need not be computed again
LARGEST = float(np.finfo(np.float32).max)


@lru_cache(REMEMBERED)
def bucket_of(name: str) -> int:
    """Return the bucket of a name: a function of its text alone.

    Examples
    --------
    >>> bucket_of("viagra") == bucket_of("viagra"), 0 <= bucket_of("7") < BUCKETS
    (True, True)
    """
    mixed = (zlib.crc32(name.encode("utf-8", "surrogatepass")) * 0x9E3779B97F4A7C15) % 2**64
    return mixed >> 46


@dataclass(frozen=True, eq=False)
class SparseRows:
    """n sparse rows, which can be cut and picked as the rows of an array [n, d] can.

    The entries of a row ascend by bucket, then by value, so that the order in which a dict has them does not matter.

    Attributes
    ----------
    start
        int64 [n + 1], where each row's entries begin; the last one is where they end.
    bucket
        int32 [m], of each entry.
    value
        float32 [m], neither 0, NaN nor infinite.

    Examples
    --------
    >>> rows = SparseRows.of([{"cheap": 1, "pills": 2}, {}, {"from": "bob", "age": None}])
    >>> len(rows), rows.lengths.tolist(), rows[1:].lengths.tolist(), rows[np.array([2, 0])].lengths.tolist()
    (3, [2, 0, 1], [0, 1], [1, 2])
    """

    start: Int64
    bucket: Int32
    value: Float32

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def lengths(self) -> Int64:
        """int64 [n], the entries of each row."""
        return np.diff(self.start)

    @property
    def nbytes(self) -> int:
        """What the arrays take."""
        return self.start.nbytes + self.bucket.nbytes + self.value.nbytes

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> SparseRows:
        if isinstance(rows, slice):
            first, stop, step = rows.indices(len(self))
            if step == 1:
                start = self.start[first : max(stop, first) + 1]
                entries = slice(start[0], start[-1])
                return SparseRows(start - start[0], self.bucket[entries], self.value[entries])
            rows = np.arange(first, stop, step)
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        lengths = self.lengths[rows]
        start = _starts(lengths)
        entries = np.arange(start[-1]) + np.repeat(self.start[:-1][rows] - start[:-1], lengths)
        return SparseRows(start, self.bucket[entries], self.value[entries])

    def checked(self) -> SparseRows:
        """Return the rows with arrays as kernels take them; DataError where they are no rows."""
        start, bucket = np.ascontiguousarray(self.start, np.int64), np.ascontiguousarray(self.bucket, np.int32)
        value = np.ascontiguousarray(self.value, np.float32)
        fits = len(start) > 0 and start[0] == 0 and start[-1] == len(bucket) == len(value)
        if not fits or (np.diff(start) < 0).any():
            raise DataError(f"rows: {len(start)} starts, {len(bucket)} buckets and {len(value)} values do not fit")
        if len(bucket) and not 0 <= bucket.min() <= bucket.max() < BUCKETS:
            raise DataError(f"rows: buckets {bucket.min()} to {bucket.max()}; they lie in 0..{BUCKETS - 1}")
        if not (np.isfinite(value) & (value != 0)).all():
            raise DataError("rows: a value is 0, NaN or infinite; leave it out")
        return SparseRows(start, bucket, value)

    def copy(self) -> SparseRows:
        """Return the same rows in arrays of their own."""
        return SparseRows(self.start.copy(), self.bucket.copy(), self.value.copy())

    def without_zeros(self) -> SparseRows:
        """Return the rows without entries that float32 cannot tell from 0."""
        there = self.value != 0
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(there, dtype=np.int64)])
        return SparseRows(ends[self.start], self.bucket[there], self.value[there])

    @classmethod
    def empty(cls) -> SparseRows:
        """No row."""
        return cls(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))

    @classmethod
    def of(cls, events: Iterable[Mapping[Any, Any]]) -> SparseRows:
        """Make rows of dicts: a number is the value of its name; a text makes a name of its own, as from=bob, with 1.

        What is missing, zero or beyond float32 is left out. What is neither number nor text is, too.
        """
        entries, lengths = list[tuple[int, float]](), list[int]()
        for event in events:
            row = list[tuple[int, float]]()
            for name, value in event.items():
                number = value if type(value) in (int, float) else _number(value)
                text = str(name)
                if number is None:
                    if not isinstance(value, str) or is_missing(value):
                        continue
                    text, number = f"{text}={value}", 1.0
                if number != 0 and abs(number) <= LARGEST:
                    row.append((bucket_of(text), number))
            entries += sorted(row)
            lengths.append(len(row))
        buckets, values = zip(*entries, strict=True) if entries else ((), ())
        found = cls(_starts(np.array(lengths, np.int64)), np.array(buckets, np.int32), np.array(values, np.float32))
        return found if found.value.all() else found.without_zeros()

    @classmethod
    def joined(cls, parts: Sequence[SparseRows]) -> SparseRows:
        """Put rows behind one another."""
        if not parts:
            return cls.empty()
        return cls(
            _starts(np.concatenate([part.lengths for part in parts])),
            np.concatenate([part.bucket for part in parts]),
            np.concatenate([part.value for part in parts]),
        )


class SparseSlots:
    """Sparse rows that are put into slots and taken out again, as rows of an array are.

    Examples
    --------
    >>> slots = SparseSlots()
    >>> slots[np.array([3, 1])] = SparseRows.of([{"a": 1}, {"b": 1, "c": 1}])
    >>> slots[np.array([1, 3])].lengths.tolist()
    [2, 1]
    """

    def __init__(self) -> None:
        self._rows: dict[int, SparseRows] = {}

    def __setitem__(self, slots: Int64, rows: SparseRows) -> None:
        for i, slot in enumerate(slots.tolist()):
            entries = slice(rows.start[i], rows.start[i + 1])
            start = np.array([0, entries.stop - entries.start])
            self._rows[slot] = SparseRows(start, rows.bucket[entries].copy(), rows.value[entries].copy())

    def __getitem__(self, slots: Int64) -> SparseRows:
        return SparseRows.joined([self._rows[slot] for slot in slots.tolist()])


def _starts(lengths: Int64) -> Int64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _number(value: Any) -> float | None:
    """Return a number, NaN for what is missing, None for a text that is none."""
    if isinstance(value, str):
        return None
    number = number_of(value)
    return math.nan if number is None else float(number)
