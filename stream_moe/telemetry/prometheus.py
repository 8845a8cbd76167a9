"""Metrics of the engine for Prometheus, rendered from the latest reports when somebody scrapes.

The engine hands over one `PartitionReport` per block; that swaps a reference and adds the block's durations to
fixed-bucket histograms. All formatting happens at scrape time, on the scraper's thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from stream_moe.report import GroupReport, PartitionReport
from stream_moe.telemetry.page.history import History
from stream_moe.telemetry.table import (
    MAX_PHASES,
    MAX_SERIES,
    METRICS,
    PREFIX,
    SECONDS_BUCKETS,
    MetricSpec,
    Samples,
)
from stream_moe.types import Float64

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A scrape within this time of the last rendering gets the same bytes, so that a storm of scrapes costs the
# engine (which shares the interpreter lock) at most one rendering a second.
CACHE_SECONDS = 1.0


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


class EngineMetrics:
    """Collector of one engine's metrics on a registry of its own.

    The engine calls `update` once per block and `update_group` when the group's state may have changed, each with a
    report that nobody changes afterwards. Scrapers call `exposition` from any thread.

    Parameters
    ----------
    cache_seconds
        Scrapes within this time of the last rendering get the same bytes.
    """

    def __init__(self, cache_seconds: float = CACHE_SECONDS) -> None:
        self.registry = CollectorRegistry(auto_describe=False)  # `collect` needs no trial run
        self.registry.register(self)
        self._reports: dict[int, PartitionReport] = {}  # replaced, never changed: scrapers read it
        self._latest: PartitionReport | None = None
        self._group: GroupReport | None = None
        self.history = History()
        self._lock = threading.Lock()  # guards the histograms: counts and sum belong together
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {
            spec.name: {} if spec.labels else {(): Histogram(spec.bounds)} for spec in METRICS if spec.bounds
        }
        self._cache_seconds = cache_seconds
        self._render_lock = threading.Lock()  # of many scrapers one renders, the others wait for its bytes
        self._rendered: tuple[float, bytes] | None = None

    @property
    def report(self) -> PartitionReport | None:
        """The latest report, None before the first block."""
        return self._latest

    @property
    def reports(self) -> list[PartitionReport]:
        """The latest report of each partition that this process holds, by partition."""
        reports = self._reports
        return [reports[partition] for partition in sorted(reports)]

    @property
    def group(self) -> GroupReport | None:
        """The latest of the group, None before there was one."""
        return self._group

    def update_group(self, report: GroupReport) -> None:
        """Take the group's report; partitions that are no longer held are forgotten."""
        if not self._reports.keys() <= set(report.partitions):
            self._reports = {p: r for p, r in self._reports.items() if p in report.partitions}
            self.history.keep(report.partitions)
        self._group = report

    def update(self, report: PartitionReport) -> None:
        """Take the report of a finished block; its durations are added, so hand each block over once.

        Between blocks (idle, state changes) hand over a report with empty `step_seconds`, `commit_seconds` 0
        and no `prediction_latencies` or `label_delays`.
        """
        with self._lock:
            if len(report.prediction_latencies):
                self._observe("prediction_latency_seconds", (), report.prediction_latencies)
            if len(report.label_delays):
                self._observe("label_delay_seconds", (), report.label_delays)
            for phase, seconds in report.step_seconds.items():
                self._observe("step_duration_seconds", (phase,), [seconds])
            if report.commit_seconds > 0:
                self._observe("commit_duration_seconds", (), [report.commit_seconds])
        self.history.add(report)
        self._reports = self._reports | {report.partition: report}
        self._latest = report

    def _observe(self, name: str, labels: tuple[str, ...], values: Sequence[float] | Float64) -> None:
        series = self._histograms[PREFIX + name]
        if labels in series or len(series) < MAX_PHASES:
            series.setdefault(labels, Histogram()).add(values)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format (`CONTENT_TYPE`)."""
        with self._render_lock:
            now = time.monotonic()
            if self._rendered is None or now - self._rendered[0] >= self._cache_seconds:
                self._rendered = now, generate_latest(self.registry)
            return self._rendered[1]

    def collect(self) -> Iterator[Any]:
        """Yield every metric family that has a sample."""
        samples = self._samples()
        for spec in METRICS:
            if spec.kind == "histogram":
                yield self._histogram_family(spec)
            elif samples[spec.name]:
                yield _family(spec, samples[spec.name])

    def _samples(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Gather the samples of each metric; what is of less rank is left out where there is no more room."""
        found: dict[str, dict[tuple[str, ...], float]] = {spec.name: {} for spec in METRICS}
        if (group := self._group) is not None:
            for spec in METRICS:
                if spec.read_group is not None:
                    found[spec.name] = _known(spec.read_group(group))
        room = MAX_SERIES - sum(map(len, found.values())) - self._histogram_series()
        for rank in range(3):
            for report in self.reports:
                # While the state is replayed, the model's counts run from the checkpoint up to where they were before
                # the restart. Prometheus would read the step back as a reset and count the whole past a second time.
                replaying = report.state in ("starting", "recovering")
                shown = [
                    (spec.name, _labelled(spec, report))
                    for spec in METRICS
                    if spec.read is not None and spec.rank == rank
                    and not (spec.kind == "counter" and replaying and not spec.of_process)
                ]  # fmt: skip
                room -= sum(len(samples) for _, samples in shown)
                if room < 0:
                    return found
                for name, samples in shown:
                    found[name] |= samples
        return found

    def _histogram_series(self) -> int:
        with self._lock:
            extra = 3  # the last bucket, the sum and the count
            return sum(
                len(self._histograms[spec.name]) * (len(spec.bounds) + extra) for spec in METRICS if spec.bounds
            )

    def _histogram_family(self, spec: MetricSpec) -> Any:
        family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        with self._lock:
            for labels, histogram in self._histograms[spec.name].items():
                family.add_metric(labels, histogram.cumulative(), histogram.sum)
        return family


def _known(value: Samples | float | None) -> dict[tuple[str, ...], float]:
    pairs = [((), value)] if value is None or isinstance(value, int | float) else value
    return {labels: float(number) for labels, number in pairs if number is not None and math.isfinite(number)}


def _labelled(spec: MetricSpec, report: PartitionReport) -> dict[tuple[str, ...], float]:
    """Read the samples of a partition; its number comes last among the labels unless the metric has its place."""
    assert spec.read is not None  # only histograms and what is of the group have no reader
    last = () if "partition" in spec.labels else (str(report.partition),)
    return {labels + last: number for labels, number in _known(spec.read(report)).items()}


def _family(spec: MetricSpec, samples: Mapping[tuple[str, ...], float]) -> Any:
    make = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
    of_partition = spec.read is not None and "partition" not in spec.labels
    family = make(spec.name, spec.help, labels=(*spec.labels, "partition") if of_partition else spec.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
