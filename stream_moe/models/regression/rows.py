"""The rows of a model of a number: from dicts to arrays, and from events to what experts see."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.experts.numbers.base import View, width_of
from stream_moe.experts.numbers.rows import (
    EPOCHS,
    EXTRA,
    FACTS,
    LABELS,
    LAGS,
    LONGEST,
    NONE,
    PERIOD,
    RING,
    SUSPECTS,
    UNIT,
    WIDEST,
    Past,
    follow,
    foresee,
)
from stream_moe.ranges import ANY, COUNT, MOST, Range, index
from stream_moe.rows import GrowthNeeded, RowEncoder
from stream_moe.snapshot import Snapshot, fill
from stream_moe.target import Target
from stream_moe.types import UNLABELLED, Float32, Float64, Int64, Schema


class NumberRows(RowEncoder):
    """`RowEncoder` where the target is a number: there are no classes to learn."""

    def _take(self, schema: Schema | None) -> None:
        if schema is not None and schema.target is None:
            schema = Schema(schema.features, target=Target())
        super()._take(schema)
        self._class_index[None] = UNLABELLED  # what is learnt of the features needs no label

    def _answer_as_given(self, y: Any) -> None:
        """Leave labels alone."""

    def encode_features(self, x: dict[Any, Any]) -> tuple[Float32, GrowthNeeded]:
        """Return the row float32 [1, d] of an event about to be learnt, and whether the schema grew for it."""
        return self.encode(x, None)


class RowHistory:
    """What is remembered of the stream, as a part of a model.

    Parameters
    ----------
    schema
        Of the events.
    """

    def __init__(self, schema: Schema) -> None:
        d, categories = schema.n_features, schema.n_categories
        self.k = k = min(d, WIDEST)
        self._offsets = np.where(categories > 0, np.cumsum(categories) - categories, -1).astype(np.int64)
        c, table = int(categories.sum()), np.zeros((EPOCHS, 3 * k + FACTS))
        table[:, k : 3 * k], table[:, 3 * k :] = NONE, [1.0, 0.0, 1.0, 0.0, 0.0]
        self.past = Past(
            np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d, np.int64), np.full(d, np.nan), np.zeros(c),
            np.zeros(c), np.zeros(d), np.zeros(d), np.arange(k), np.full(RING, np.nan), np.zeros(3),
            np.zeros(LONGEST + 2), np.zeros(LONGEST + 2), np.zeros(4), np.array([0, 0, -1, 0, 0, 0]), table,
            np.zeros(1, np.int64),
        )  # fmt: skip
        self.width = 2 * k + LAGS + EXTRA  # of a row as it is kept

    def grow(self, schema: Schema) -> None:
        """Have room for categories that were not there before."""
        categories, past = schema.n_categories, self.past
        offsets = np.where(categories > 0, np.cumsum(categories) - categories, -1).astype(np.int64)
        grown = [np.zeros(int(categories.sum())) for _ in range(2)]
        ends = np.append(self._offsets[self._offsets >= 0], len(past.code_sum))[1:]
        for old, new, end in zip(self._offsets[self._offsets >= 0], offsets[offsets >= 0], ends, strict=True):
            for mine, found in zip((past.code_sum, past.code_count), grown, strict=True):
                found[new : new + end - old] = mine[old:end]
        self.past, self._offsets = past._replace(code_sum=grown[0], code_count=grown[1]), offsets

    @property
    def unit(self) -> float:
        """The target's unit in this epoch."""
        return float(self.past.table[self.epoch % EPOCHS, 3 * self.k + UNIT])

    @property
    def epoch(self) -> int:
        """Which epoch it is."""
        return int(self.past.epoch[0])

    @property
    def period(self) -> int:
        """Events between targets that are most alike; 0 = none found."""
        return int(self.past.counts[PERIOD])

    @property
    def suspects(self) -> int:
        """Targets in a row, up to now, that are too far away to be learnt."""
        return int(self.past.counts[SUSPECTS])

    @property
    def labels(self) -> int:
        """Targets learnt since the record began."""
        return int(self.past.counts[LABELS])

    def follow(self, x: Float32, y: Float64, source: Int64, rows: Float64, weight: Float64) -> View:
        """Go through n events, see `stream_moe.experts.numbers.rows.follow`; return them as experts take them."""
        n = len(x)
        columns, facts = np.empty((n, width_of(self.k))), np.empty((n, EXTRA))
        epochs, learnt = np.empty(n, np.int64), np.empty(n)
        follow(self.past, self._offsets, x, y, source, rows, columns, facts, epochs, learnt)
        return View(columns, facts, epochs, self.past.table, self.epoch, learnt, weight, np.zeros(n))

    def foresee(self, x: Float32) -> View:
        """Describe n events as if each came next; nothing changes."""
        n = len(x)
        columns, facts = np.empty((n, width_of(self.k))), np.empty((n, EXTRA))
        foresee(self.past, self._offsets, x, np.empty((n, self.width)), columns, facts)
        epochs = np.full(n, self.epoch)
        return View(columns, facts, epochs, self.past.table, self.epoch, np.full(n, np.nan), np.ones(n), np.zeros(n))

    def snapshot(self) -> Snapshot:
        return {name: array.copy() for name, array in self.past._asdict().items()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        mine: dict[str, Any] = dict(self.past._asdict())
        ranges = dict.fromkeys(mine, ANY) | {
            "chosen": index(len(self.past.mean)), "seen": COUNT, "counts": Range(-1, MOST), "epoch": COUNT,
        }  # fmt: skip
        fill(mine, snapshot[0], "rows", ranges)
        counts = self.past.counts
        if (np.delete(counts, 2) < 0).any() or (counts[PERIOD:] >= LONGEST).any() or counts[2] >= counts[0]:
            raise CheckpointError("rows: array 'counts' holds what cannot be")
