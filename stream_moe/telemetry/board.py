"""The board: the latest reports of one engine, read by metrics, health, page and terminal.

The engine hands over one `PartitionReport` per block. That swaps a reference, adds a point to the past when one is
due, and counts the block's durations; all formatting happens when somebody reads, on the reader's thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from stream_moe.report import GroupReport, PartitionReport
from stream_moe.telemetry.history import History
from stream_moe.telemetry.spec import Labels
from stream_moe.telemetry.table import MAX_PHASES, METRICS, SECONDS_BUCKETS
from stream_moe.types import Float64

Counted = dict[Labels, tuple[list[tuple[str, int]], float]]  # by label values: cumulative buckets, and the sum
_HISTOGRAMS = [(spec, spec.durations) for spec in METRICS if spec.durations is not None]


class Histogram:
    """Counts of values in fixed buckets; a value belongs to the first bucket whose bound it does not exceed.

    Examples
    --------
    >>> histogram = Histogram((0.5, 1.0))
    >>> histogram.add([0.5, 0.7, 3.0, float("nan")])
    >>> histogram.cumulative()
    [('0.5', 1), ('1.0', 2), ('+Inf', 3)]
    """

    def __init__(self, bounds: Sequence[float] = SECONDS_BUCKETS) -> None:
        self._bounds = np.array(bounds, np.float64)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self.sum = 0.0

    def add(self, values: Sequence[float] | Float64) -> None:
        """Count values. One below zero (clocks disagree) counts as zero; NaN and infinity are dropped."""
        array = np.asarray(values, np.float64)
        array = np.maximum(array[np.isfinite(array)], 0.0)
        slots = np.searchsorted(self._bounds, array)
        self._counts += np.bincount(slots, minlength=len(self._counts))
        self.sum += float(array.sum())

    def cumulative(self) -> list[tuple[str, int]]:
        """Upper bound and how many values do not exceed it, as Prometheus wants them."""
        names = [str(bound) for bound in self._bounds.tolist()] + ["+Inf"]
        return list(zip(names, np.cumsum(self._counts).tolist(), strict=True))


class Board:
    """Holds the latest report of each partition and of the group, the past, and the histograms.

    The engine's thread calls `update` and `update_group`, each with a report that nobody changes afterwards. Any
    thread may read. `clock` gives the monotonic seconds of the past.

    Examples
    --------
    >>> board = Board()
    >>> board.update_group(GroupReport("running", (0, 1)))
    >>> board.group.partitions, board.reports
    ((0, 1), [])
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.history = History(clock)  # how the numbers moved
        self.group: GroupReport | None = None  # this process in its group, None before there was a report of it
        self._reports: dict[int, PartitionReport] = {}  # replaced, never changed: other threads read it
        self._lock = threading.Lock()  # guards the histograms: counts and sum belong together
        self._histograms: dict[str, dict[Labels, Histogram]] = {
            spec.name: {} if spec.labels else {(): Histogram(spec.bounds)} for spec, _ in _HISTOGRAMS
        }

    @property
    def reports(self) -> list[PartitionReport]:
        """The latest report of each partition that this process holds, by partition."""
        reports = self._reports
        return [reports[partition] for partition in sorted(reports)]

    def update_group(self, report: GroupReport) -> None:
        """Take the group's report; partitions that are no longer held are forgotten."""
        if not self._reports.keys() <= set(report.partitions):
            self._reports = {p: r for p, r in self._reports.items() if p in report.partitions}
            self.history.keep(report.partitions)
        self.group = report

    def update(self, report: PartitionReport) -> None:
        """Take the report of a finished block; its durations are added, so hand each block over once.

        Between blocks (idle, state changes) hand over a report with empty `step_seconds`, `commit_seconds` 0
        and no `prediction_latencies` or `label_delays`.
        """
        with self._lock:
            for spec, durations in _HISTOGRAMS:
                series = self._histograms[spec.name]
                for labels, seconds in durations(report):
                    if len(seconds) and (labels in series or len(series) < MAX_PHASES):
                        series.setdefault(labels, Histogram(spec.bounds)).add(seconds)
        self.history.add(report)
        self._reports = self._reports | {report.partition: report}

    def histograms(self) -> dict[str, Counted]:
        """Buckets and sum of each histogram, by metric."""
        with self._lock:
            return {
                name: {labels: (each.cumulative(), each.sum) for labels, each in series.items()}
                for name, series in self._histograms.items()
            }
