"""How the numbers moved: a bounded past of each partition, kept from the reports.

A point holds counts since the start. The difference of two points is what happened between them, so a past of fewer
points has a lower resolution and loses nothing else. Three spans are kept, of as many points each: the latest hour,
the latest day, and all since the process started, which drops every other point whenever it is full.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_moe.evaluation.metrics import above
from stream_moe.report import PartitionReport
from stream_moe.types import Float64

POINTS = 160  # one for every four pixels of a chart
FIRST_STEP = 0.25  # seconds between the first points of the span that holds all
SPANS: dict[str, float | None] = {"hour": 3_600.0, "day": 86_400.0, "all": None}  # seconds
# 3 spans of 160 points of 64 experts and 32 classes are 0.5 MB: 16 partitions keep a past of at most 9 MB.
MAX_PARTITIONS = 16
MAX_EXPERTS = 64
MAX_CLASSES = 32  # of more, the kappa between two points is not known: it needs the counts of every class
WINDOW = 1_000  # labels that a score looks back at least: their accuracy scatters by 1.6 points or less
_SCALARS = (
    "time", "events", "labels_received", "labels", "right", "majority_right", "no_change_right", "lag_records",
    "lag_seconds", "accuracy", "dead_letters", "events_expired", "mixture_drifts", "expert_drifts",
    "checkpoint_failures",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Past:
    """n points of a partition, oldest first; what is counted, counts since the start.

    Of the scalars, float64 [n] by name, `time` is in monotonic seconds, and `lag_records`, `lag_seconds` and
    `accuracy` (the recent one) are as they were.
    """

    scalars: dict[str, Float64]
    routed: Float64  # [n, E] labelled events by routed expert
    class_labels: Float64  # [n, C] labelled events by true class; C = 0 for more classes than are kept
    class_predictions: Float64  # [n, C] and by predicted class

    def __len__(self) -> int:
        return len(self.routed)

    def __getitem__(self, name: str) -> Float64:
        return self.scalars[name]

    def increase(self, name: str, seconds: float, whole: bool = True) -> float | None:
        """Return how much a count grew over the latest seconds.

        None where the past does not reach as far back; with `whole` false, the growth over what there is.
        """
        at = self["time"]
        if whole and at[-1] - at[0] < seconds:
            return None
        return float(self[name][-1] - self[name][self._before("time", seconds)])

    def rate(self, name: str, seconds: float) -> float | None:
        """Growth of a count a second over about the latest seconds, or over what there is."""
        at = self["time"]
        if len(at) < 2 or at[-1] <= at[0]:
            return None
        before = min(self._before("time", seconds), len(at) - 2)
        return float((self[name][-1] - self[name][before]) / (at[-1] - at[before]))

    def lately(self) -> Float64:
        """Share of each expert in the latest labelled events, float64 [E]: of `WINDOW` at least, if there are."""
        before = min(self._before("labels", WINDOW), len(self) - 2)
        grown = self.routed[-1] - self.routed[before]
        return grown / max(float(grown.sum()), 1.0)

    def _before(self, name: str, distance: float) -> int:
        """Index of the latest point at which a scalar was so far below its last value; 0 where there is none."""
        values = self[name]
        return max(0, int(np.searchsorted(values, values[-1] - distance, side="right")) - 1)

    def scores(self) -> dict[str, Float64]:
        """Accuracy and the three kappas, float64 [n], each over the labels since the point before, or `WINDOW`.

        NaN where no label came yet, and for a kappa that is not known.
        """
        labels = self["labels"]
        index = np.arange(len(labels))
        before = np.minimum(np.searchsorted(labels, labels - WINDOW, side="right") - 1, index - 1)
        before = np.maximum(before, 0)
        n = labels - labels[before]
        known = n > 0

        def share(counts: Float64) -> Float64:
            return np.divide(counts - counts[before], n, out=np.full(len(n), np.nan), where=known)

        accuracy = share(self["right"])
        true = self.class_labels - self.class_labels[before]
        predicted = self.class_predictions - self.class_predictions[before]
        chance = np.divide((true * predicted).sum(1), n**2, out=np.full(len(n), np.nan), where=known)
        if not self.class_labels.shape[1]:
            chance[:] = np.nan

        def beyond(reference: Float64) -> Float64:
            return np.array([r if np.isnan(r) else above(a, r) for a, r in zip(accuracy, reference, strict=True)])

        majority, temporal = beyond(share(self["majority_right"])), beyond(share(self["no_change_right"]))
        return {"accuracy": accuracy, "kappa": beyond(chance), "kappa_majority": majority, "kappa_temporal": temporal}


class Track:
    """At most `points` rows of one span, at even distances in time."""

    def __init__(self, width: int, span: float | None, points: int = POINTS) -> None:
        self._rows: Float64 = np.empty((points, width))
        self.nbytes = int(self._rows.nbytes)
        self._n, self._span = 0, span
        self._step = FIRST_STEP if span is None else span / points
        self._next = -np.inf

    def add(self, now: float, row: Float64) -> float:
        """Keep a row if it is time; return when the next one is due."""
        if now < self._next:
            return self._next
        points = len(self._rows)
        if self._n == points:
            if self._span is None:
                self._rows[: points // 2] = self._rows[::2].copy()
                self._n, self._step = points // 2, 2 * self._step
            else:  # many at once, so that they are not moved at every point
                kept = points - points // 8
                self._rows[:kept] = self._rows[points - kept :].copy()
                self._n = kept
        self._rows[self._n] = row
        self._n += 1
        self._next = now + self._step
        return self._next

    @property
    def rows(self) -> Float64:
        """float64 [n, width], a copy."""
        return self._rows[: self._n].copy()


@dataclass(slots=True)
class _Kept:
    """What is kept of one partition."""

    tracks: dict[str, Track]
    shape: tuple[int, int]  # experts and classes
    at: float  # when the latest report came
    latest: PartitionReport
    next: float = 0.0  # when the next point is due


class History:
    """The past of the partitions of one process, by a `clock` of monotonic seconds.

    The engine's thread calls `add` once per block: nearly always that compares a few numbers and returns. Any
    thread may call `past`.

    Examples
    --------
    >>> History().past(0, "hour") is None
    True
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[int, _Kept] = {}
        self._lock = threading.Lock()

    def add(self, report: PartitionReport) -> None:
        """Take a report; one whose counts went back (a state was dropped and recovered) begins a new past."""
        now, kept = self._clock(), self._kept.get(report.partition)
        if kept is None and len(self._kept) >= MAX_PARTITIONS:
            return
        if kept is None or report.quality.events < kept.latest.quality.events:
            kept = None
        elif now < kept.next:
            kept.at, kept.latest = now, report
            return
        shape, row = _row(report, now)
        with self._lock:
            if kept is None or shape != kept.shape:
                tracks = {name: Track(len(row), span) for name, span in SPANS.items()}
                kept = self._kept[report.partition] = _Kept(tracks, shape, now, report)
            kept.at, kept.latest = now, report
            kept.next = min(track.add(now, row) for track in kept.tracks.values())

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all partitions but these."""
        if self._kept.keys() <= set(partitions):
            return
        with self._lock:
            for gone in self._kept.keys() - set(partitions):
                del self._kept[gone]

    def past(self, partition: int, span: str) -> Past | None:
        """Points of one span and, as the last one, the latest report; None for a partition without a past."""
        seconds = SPANS[span] or np.inf
        with self._lock:
            if (kept := self._kept.get(partition)) is None:
                return None
            rows, whole = kept.tracks[span].rows, kept.tracks["all"].rows
            now, latest, shape = kept.at, kept.latest, kept.shape
        if whole[-1, 0] - whole[0, 0] < seconds:
            rows = whole  # of a process younger than the span: the same time in smaller steps
        found, row = _row(latest, now)
        if found == shape and now > rows[-1, 0]:
            rows = np.vstack([rows, row])
        rows = rows[rows[:, 0] >= rows[-1, 0] - seconds]
        n, (experts, classes) = len(_SCALARS), shape
        return Past(
            {name: rows[:, i] for i, name in enumerate(_SCALARS)},
            rows[:, n : n + experts],
            rows[:, n + experts : n + experts + classes],
            rows[:, n + experts + classes :],
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all points, kept or yet to come."""
        return sum(track.nbytes for kept in self._kept.values() for track in kept.tracks.values())


def _row(report: PartitionReport, now: float) -> tuple[tuple[int, int], Float64]:
    quality, learner, labels = report.quality, report.learner, report.labels
    values: list[Any] = [
        now, report.events_consumed, labels.received, quality.events, int(quality.class_right.sum()),
        quality.majority_right, quality.no_change_right, report.lag_records, report.lag_seconds,
        quality.window_accuracy, sum(report.dead_letters.values()), labels.events_expired, learner.mixture_drifts,
        sum(expert.drifts for expert in learner.experts), sum(report.checkpoint_failures.values()),
    ]  # fmt: skip
    experts = learner.experts[:MAX_EXPERTS]
    kept = 0 if len(quality.class_labels) > MAX_CLASSES else len(quality.class_labels)
    classes = [*quality.class_labels.tolist(), *quality.class_predictions.tolist()] if kept else []
    return (len(experts), kept), np.array([*values, *(expert.routed for expert in experts), *classes], np.float64)
