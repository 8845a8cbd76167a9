"""Which of very many features the dear experts see: those that tell the classes apart best.

As with sparse rows (`stream_moe.experts.sparse.columns`) a column once given is kept, and when which ones are given
depends on the labels learnt before alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.experts.sparse.columns import MARKS
from stream_moe.ranges import ANY, COUNT, expect, index
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

MOST_FEATURES = 512  # up to here every expert sees all of them
PLACES = 128
PART = "columns"


class Known(NamedTuple):
    """What is known of d features in C classes."""

    first: Float64  # [d] value, from which the others are counted; NaN before
    values: Float64  # [d, C] how many
    total: Float64  # [d, C]
    square: Float64  # [d, C]
    labels: Int64  # [C] learnt


@compiled
def look(
    known: Known, column: Int64, x: Float32, y: Int32, begin: int, mark: int, keep: bool, view: Float32
) -> int:  # fmt: skip
    """Write the columns of the rows from `begin` on; return behind which row a mark lies. Learns only if `keep`."""
    for t in range(begin, y.shape[0]):
        for p in range(column.shape[0]):
            view[t, p] = x[t, column[p]] if column[p] >= 0 else np.float32(np.nan)
        if not keep or y[t] < 0:
            continue
        for j in range(x.shape[1]):
            if math.isnan(x[t, j]):
                continue
            if math.isnan(known.first[j]):
                known.first[j] = x[t, j]
            value = x[t, j] - known.first[j]
            known.values[j, y[t]] += 1.0
            known.total[j, y[t]] += value
            known.square[j, y[t]] += value * value
        known.labels[y[t]] += 1
        if known.labels.sum() - known.labels.max() == mark:
            return t + 1
    return y.shape[0]


class WideColumns:
    """The columns of rows with very many features: places, given to numeric features as labels come.

    Parameters
    ----------
    schema
        Features and classes.
    places
        K.

    Examples
    --------
    >>> rng, y = np.random.default_rng(1), np.arange(200, dtype=np.int32) % 2
    >>> x = rng.normal(size=(200, 600)).astype(np.float32)
    >>> x[:, 77] += 3 * y
    >>> columns = WideColumns(Schema.numeric(600, ["no", "yes"]), 8)
    >>> view, _ = columns.take(x, y)
    >>> bool((view[100:, 0] == x[100:, 77]).all()), bool(np.isnan(view[:99]).all())
    (True, True)
    """

    def __init__(self, schema: Schema, places: int = PLACES) -> None:
        d, c = schema.n_features, schema.n_classes
        self._column = np.full(places, -1, np.int64)
        self._numeric = schema.n_categories == 0
        self._known = Known(
            np.full(d, np.nan), np.zeros((d, c)), np.zeros((d, c)), np.zeros((d, c)), np.zeros(c, np.int64)
        )

    def __len__(self) -> int:
        return len(self._column)

    @property
    def _others(self) -> int:
        """Labels learnt of others than the most frequent class."""
        return int(self._known.labels.sum() - self._known.labels.max())

    def take(self, x: Float32, y: Int32, *, keep: bool = True) -> tuple[Float32, Float32]:
        """Return the columns of rows, float32 [n, K], NaN where a place has none, and the rows as they are.

        Parameters
        ----------
        x, y
            float32 [n, d], C-contiguous, and class indices int32 [n], -1 = no label.
        keep
            Learn from them.
        """
        view, done = np.empty((len(x), len(self._column)), np.float32), 0
        while done < len(x):
            before = self._others
            mark, share = next(((mark, share) for mark, share in MARKS if mark > before), (-1, 0.0))
            done = look(self._known, self._column, x, y, done, mark, keep, view)
            if self._others == mark:
                self._give(int(share * len(self._column)))
        return view, x

    def _give(self, places: int) -> None:
        """Have so many places given, while there are features that differ between the classes."""
        known = self._known
        first = int((self._column >= 0).sum())
        free = self._numeric.copy()
        free[self._column[:first]] = False
        features = np.flatnonzero(free)
        count, total = known.values[features], known.total[features]
        explained = (total**2 / np.maximum(count, 1.0)).sum(1)
        between = explained - total.sum(1) ** 2 / np.maximum(count.sum(1), 1.0)
        square = known.square[features].sum(1)
        ratio = between / np.maximum(square - explained, 1e-9 * square + 1e-12)
        useful = np.flatnonzero((between > 1e-9) & np.isfinite(ratio))
        best = features[useful[np.argsort(-ratio[useful], kind="stable")]][: max(places - first, 0)]
        self._column[first : first + len(best)] = best

    def grow(self, n_classes: int) -> None:
        """As of no such model: it has a schema that was given, which does not grow."""
        raise NotImplementedError("a given schema does not grow")

    def snapshot(self) -> Snapshot:
        return {name: a.copy() for name, a in self._known._asdict().items()} | {"column": self._column.copy()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; CheckpointError where it is of other places, features or classes."""
        found, known = snapshot[0], self._known
        for name, mine in known._asdict().items():
            mine[...] = expect(PART, found, name, mine.dtype, mine.shape, COUNT if name == "labels" else ANY)
        allowed = index(len(self._numeric), none=True)
        self._column[:] = expect(PART, found, "column", np.int64, self._column.shape, allowed)
