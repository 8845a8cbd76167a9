"""Everything that watches a stream for drift beside the learner: inputs, labels, and what the learner itself found.

It changes no prediction. Its state goes into the checkpoint, so that a replay finds the same drifts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from stream_moe.drift.distribution import MOST, WINDOW, DistributionMonitor
from stream_moe.ranges import Range, number, of
from stream_moe.report import Drift, DriftReport, LearnerDrift
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.sparse_rows import SparseRows
from stream_moe.types import Feature, Float32, Float64, Int32, Int64, Schema

FEATURES, LABELS = ("feature", "ks"), ("label", "rates")  # scope and detector
LABEL_THIN = 8
NUMBERS = ("events", "labels")  # of what was read, and learnt
PLACE = Range(-1, 2**63 - 1)  # an offset, or a time in milliseconds; -1 = none yet
SCOPES = ("feature", "expert", "mixture", "label")
MOST_NAMED = 8  # features in one record
LENGTH = "entries"  # of sparse rows only how many entries each has is watched


class FindsDrifts(Protocol):
    """A learner that watches its own errors."""

    def take_drifts(self) -> list[LearnerDrift]: ...


class DriftWatch:
    """Detectors of the features' and the labels' distributions, and the book of all drifts.

    Parameters
    ----------
    schema
        Of the events.

    Examples
    --------
    >>> from stream_moe.models.published.data import DriftMoEData
    >>> schema, rng = Schema.numeric(2, ["no", "yes"]), np.random.default_rng(1)
    >>> x = rng.random((20_000, 2), dtype=np.float32)
    >>> x[12_000:, 1] = np.nan  # a sensor falls silent; no label has come yet
    >>> watch, learner = DriftWatch(schema), DriftMoEData(schema)
    >>> offsets, times, none = np.arange(20_000), np.full(20_000, -1), np.empty(0, np.int32)
    >>> [drift] = watch.update(learner, x, offsets, times, none, np.empty(0, np.int64))
    >>> drift.scope, drift.which, 12_000 < drift.event < 14_000
    ('feature', 'x1', True)
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = Schema((Feature(LENGTH),), schema.classes) if schema.sparse else schema
        self._features = DistributionMonitor(self._schema.n_categories)
        self._labels = DistributionMonitor(np.array([schema.n_classes], np.int32), thin=LABEL_THIN)
        self.events = self.labels = 0  # read, and learnt
        self._last = (-1, -1)  # offset and timestamp (ms) of the latest event
        self._last_ms = dict.fromkeys(SCOPES, -1)
        # Of drifts of which the block alone is known, and so no state: it would depend on how the log was cut.
        self._about_ms = dict.fromkeys(SCOPES, -1)

    def grow(self, schema: Schema) -> None:
        """Go on under a schema that grew."""
        self._schema = schema
        self._features.grow(schema.n_categories)
        self._labels.grow(np.array([schema.n_classes], np.int32), thin=LABEL_THIN)

    def compile(self) -> None:
        """Compile the detectors, or read their machine code; for a watch that is of no other use."""
        for monitor in (self._features, self._labels):
            rows = 2 * WINDOW * monitor.thin
            monitor.update(np.zeros((rows, len(monitor.n_categories)), np.float32))

    def update(
        self, learner: FindsDrifts, x: Float32, offsets: Int64, timestamps: Int64, y: Int32, reached: Int64
    ) -> list[Drift]:
        """Take a block after the learner has learnt it.

        Parameters
        ----------
        learner
            Who learnt it.
        x, offsets, timestamps
            The events read: float32 [n, d], int64 [n], int64 [n] in ms since 1970 (-1 = unknown).
        y, reached
            The labels learnt: int32 [m], int64 [m] how many of these n events had been read then.

        Returns
        -------
        list of Drift
            What was found, by event.
        """
        found: list[tuple[int, Drift]] = []

        def note(read: int, scope: str, detector: str, which: str, strength: float | None, within: int = 0) -> None:
            """Note what was found after `read` events of this block; its place is that of the last one read."""
            offset, ms = (int(offsets[read - 1]), int(timestamps[read - 1])) if read else self._last
            latest = self._about_ms if within else self._last_ms
            latest[scope] = max(latest[scope], ms)
            place = self.events + read, offset, None if ms < 0 else ms
            found.append((read, Drift(*place, scope, detector, which, strength, within)))

        if isinstance(x, SparseRows):
            x = x.lengths.astype(np.float32)[:, None]
        for shift in self._features.update(x):
            names = [self._schema.features[j].name for j in shift.columns]
            which = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
            note(shift.event - self.events, *FEATURES, which, shift.strength)
        for shift in self._labels.update(_as_column(y)):
            shared = shift.bin == MOST and self._schema.n_classes > MOST
            target = self._schema.target
            if target is not None:
                which = target.name
            else:
                which = "other" if shared else self._schema.classes[max(shift.bin - 1, 0)]
            note(int(reached[shift.event - self.labels - 1]), *LABELS, which, shift.strength)
        for drift in learner.take_drifts():
            row = len(y) - 1 if drift.event is None else min(max(drift.event - self.labels - 1, 0), len(y) - 1)
            read = int(reached[row]) if len(y) else 0
            within = len(y) if drift.event is None else 0
            note(read, drift.scope, drift.detector, drift.which, drift.strength, within)
        self.events, self.labels = self.events + len(x), self.labels + len(y)
        if len(x):
            self._last = int(offsets[-1]), int(timestamps[-1])
        return [drift for _, drift in sorted(found, key=lambda item: item[0])]

    def report(self, found: Sequence[Drift] = ()) -> DriftReport:
        """Counts and strengths by now, with what was found in the latest block."""
        names = [feature.name for feature in self._schema.features]
        return DriftReport(
            warnings={FEATURES[0]: self._features.warnings, LABELS[0]: self._labels.warnings},
            detections={FEATURES: self._features.drifts, LABELS: self._labels.drifts},
            last_seconds={
                scope: latest / 1000
                for scope, ms in self._last_ms.items()
                if (latest := max(ms, self._about_ms[scope])) >= 0
            },
            strengths=dict(zip(names, self._features.strengths.tolist(), strict=True)),
            found=list(found),
        )

    def snapshot(self) -> Snapshot:
        plain = {"events": self.events, "labels": self.labels, "last": list(self._last), "ms": dict(self._last_ms)}
        parts = {"features": self._features.snapshot(), "labels": self._labels.snapshot()}
        return pack(parts | {"book": ({}, plain)})

    def restore(self, snapshot: Snapshot) -> None:
        parts = unpack(snapshot)
        for name, monitor in (("features", self._features), ("labels", self._labels)):
            with of(f"watch, {name}"):
                monitor.restore(parts[name])
        book = parts["book"][1]
        seen = self._features.seen, self._labels.seen
        events, labels = (number("watch", book, name, Range(n, n)) for name, n in zip(NUMBERS, seen, strict=True))
        offset, ms = (number("watch, last", dict(enumerate(book["last"])), i, PLACE) for i in range(2))
        last_ms = {scope: number("watch, ms", book["ms"], scope, PLACE) for scope in SCOPES}
        self.events, self.labels, self._last, self._last_ms = events, labels, (offset, ms), last_ms

    def begin_at(self, events: int, labels: int) -> None:
        """Count from here on: of a checkpoint that was made before there was such a watch."""
        self.events, self.labels = events, labels
        self._features.begin_at(events)
        self._labels.begin_at(labels)


def _as_column(y: Int32 | Float64) -> Float32:
    """Return labels as the one column of a monitor; a number beyond float32 counts as missing."""
    with np.errstate(over="ignore"):
        column = y[:, None].astype(np.float32)
    column[np.isinf(column)] = np.nan
    return column
