"""Metrics of the engine for Prometheus, rendered from the latest report when somebody scrapes.

The engine hands over one `EngineReport` per block; that swaps a reference and adds the block's durations to
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

from stream_moe.report import EngineReport
from stream_moe.telemetry.table import MAX_PHASES, METRICS, PREFIX, MetricSpec

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a tenth of a millisecond (one small block in memory) to a minute (a log that was behind).
SECONDS_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

# A scrape within this time of the last rendering gets the same bytes, so that a storm of scrapes costs the
# engine (which shares the interpreter lock) at most four renderings a second.
CACHE_SECONDS = 0.25


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

    def add(self, values: Sequence[float]) -> None:
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

    The engine calls `update` once per block, with a report that nobody changes afterwards. Scrapers call
    `exposition` from any thread.

    Parameters
    ----------
    cache_seconds
        Scrapes within this time of the last rendering get the same bytes.
    """

    def __init__(self, cache_seconds: float = CACHE_SECONDS) -> None:
        self.registry = CollectorRegistry(auto_describe=False)  # `collect` needs no trial run
        self.registry.register(self)
        self._report: EngineReport | None = None
        self._lock = threading.Lock()  # guards the histograms: counts and sum belong together
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {
            spec.name: {} if spec.labels else {(): Histogram()} for spec in METRICS if spec.kind == "histogram"
        }
        self._cache_seconds = cache_seconds
        self._render_lock = threading.Lock()  # of many scrapers one renders, the others wait for its bytes
        self._rendered: tuple[float, bytes] | None = None

    @property
    def report(self) -> EngineReport | None:
        """The latest report, None before the first block."""
        return self._report

    def update(self, report: EngineReport) -> None:
        """Take the report of a finished block; its durations are added, so hand each block over once.

        Between blocks (idle, state changes) hand over a report with empty `step_seconds`, `commit_seconds` 0
        and no `prediction_latencies`.
        """
        with self._lock:
            if report.prediction_latencies:
                self._observe("prediction_latency_seconds", (), report.prediction_latencies)
            for phase, seconds in report.step_seconds.items():
                self._observe("step_duration_seconds", (phase,), [seconds])
            if report.commit_seconds > 0:
                self._observe("commit_duration_seconds", (), [report.commit_seconds])
        self._report = report

    def _observe(self, name: str, labels: tuple[str, ...], values: Sequence[float]) -> None:
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
        report = self._report
        # While the state is replayed, the model's counts run from the checkpoint up to where they were before
        # the restart. Prometheus would read the step back as a reset and count the whole past a second time.
        replaying = report is None or report.state in ("starting", "recovering")
        for spec in METRICS:
            if spec.kind == "histogram":
                yield self._histogram_family(spec)
            elif report is not None and not (spec.kind == "counter" and replaying and not spec.of_process):
                samples = _known_samples(spec, report)
                if samples:
                    yield _family(spec, samples)

    def _histogram_family(self, spec: MetricSpec) -> Any:
        family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        with self._lock:
            for labels, histogram in self._histograms[spec.name].items():
                family.add_metric(labels, histogram.cumulative(), histogram.sum)
        return family


def _known_samples(spec: MetricSpec, report: EngineReport) -> Mapping[tuple[str, ...], float]:
    assert spec.read is not None  # only histograms have no reader
    value = spec.read(report)
    pairs = [((), value)] if value is None or isinstance(value, int | float) else value
    return {labels: float(number) for labels, number in pairs if number is not None and math.isfinite(number)}


def _family(spec: MetricSpec, samples: Mapping[tuple[str, ...], float]) -> Any:
    make = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
    family = make(spec.name, spec.help, labels=spec.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
