"""Arrays with a row of C numbers for each bucket: how many rows there are, and how they are kept and grown."""

from __future__ import annotations

import numpy as np

from stream_moe.ranges import ANY, expect, index
from stream_moe.snapshot import Arrays
from stream_moe.sparse_rows import BUCKETS
from stream_moe.types import Float64

MOST_NUMBERS = 2**23  # of one array, 64 MB of doubles when all buckets are in use


def rows_for(n_classes: int) -> int:
    """Return how many rows there are, a power of two: bucket b has row b modulo that.

    Examples
    --------
    >>> rows_for(2), rows_for(900)
    (262144, 8192)
    """
    rows = BUCKETS
    while rows * n_classes > MOST_NUMBERS and rows > 1:
        rows //= 2
    return rows


def new_rows(n_classes: int) -> Float64:
    """Return zeros [rows, C], which take memory where they are written to, and no sooner."""
    return np.zeros((rows_for(n_classes), n_classes))


def grown(old: Float64, n_classes: int) -> Float64:
    """Return the same numbers for more classes; where that leaves fewer rows, rows that meet are added up."""
    new = new_rows(n_classes)
    used = np.flatnonzero(old.any(1))
    np.add.at(new, used % len(new), np.pad(old[used], ((0, 0), (0, n_classes - old.shape[1]))))
    return new


def packed(arrays: dict[str, Float64]) -> Arrays:
    """Return the rows in use of arrays of one shape, and which those are: a checkpoint has no empty ones."""
    used = np.zeros(len(next(iter(arrays.values()))), np.bool_)
    for array in arrays.values():
        used |= array.any(1)
    rows = np.flatnonzero(used).astype(np.int32)
    return {"rows": rows} | {name: array[rows] for name, array in arrays.items()}


def unpacked(into: dict[str, Float64], found: Arrays, part: str) -> None:
    """Write the rows that `packed` gave; CheckpointError where they do not fit."""
    length, n_classes = next(iter(into.values())).shape
    rows = expect(part, found, "rows", np.int32, (None,), index(length))
    for name, array in into.items():
        numbers = expect(part, found, name, np.float64, (len(rows), n_classes), ANY)
        array[:] = 0.0
        array[rows] = numbers
