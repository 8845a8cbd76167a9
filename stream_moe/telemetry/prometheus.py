"""The board as metrics for Prometheus, rendered when somebody scrapes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from stream_moe.report import PartitionReport
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.spec import Labels, MetricSpec, known
from stream_moe.telemetry.table import MAX_SERIES, METRICS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A scrape within this time of the last rendering gets the same bytes, so that a storm of scrapes costs the
# engine (which shares the interpreter lock) at most one rendering a second.
CACHE_SECONDS = 1.0


class Exporter:
    """Renders a board in the text format of Prometheus; any thread may ask.

    Examples
    --------
    >>> from stream_moe.report import GroupReport
    >>> board = Board()
    >>> board.update_group(GroupReport("running", (0, 1)))
    >>> b"stream_moe_assigned_partitions 2.0" in Exporter(board).exposition()
    True
    """

    def __init__(self, board: Board, cache_seconds: float = CACHE_SECONDS) -> None:
        self._board, self._cache_seconds = board, cache_seconds
        self._registry = CollectorRegistry(auto_describe=False)  # `collect` needs no trial run
        self._registry.register(self)
        self._render_lock = threading.Lock()  # of many scrapers one renders, the others wait for its bytes
        self._rendered: tuple[float, bytes] | None = None

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format (`CONTENT_TYPE`)."""
        with self._render_lock:
            now = time.monotonic()
            if self._rendered is None or now - self._rendered[0] >= self._cache_seconds:
                self._rendered = now, generate_latest(self._registry)
            return self._rendered[1]

    def collect(self) -> Iterator[Any]:
        """Yield every metric family that has a sample; the registry calls this."""
        histograms = self._board.histograms()
        n_series = sum(len(buckets) + 2 for each in histograms.values() for buckets, _ in each.values())  # sum, count
        samples = self._samples(n_series)
        for spec in METRICS:
            if spec.kind == "histogram":
                family = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
                for labels, (buckets, total) in histograms[spec.name].items():
                    family.add_metric(labels, buckets, total)
                yield family
            elif samples[spec.name]:
                yield _family(spec, samples[spec.name])

    def _samples(self, taken: int) -> dict[str, dict[Labels, float]]:
        """Gather the samples of each metric; what is of less rank is left out where there is no more room."""
        found: dict[str, dict[Labels, float]] = {spec.name: {} for spec in METRICS}
        if (group := self._board.group) is not None:
            for spec in METRICS:
                if spec.read_group is not None:
                    found[spec.name] = known(spec.read_group(group))
        room = MAX_SERIES - sum(map(len, found.values())) - taken
        for rank in range(3):
            for report in self._board.reports:
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


def _labelled(spec: MetricSpec, report: PartitionReport) -> dict[Labels, float]:
    """Read the samples of a partition; its number comes last among the labels unless the metric has its place."""
    last = () if "partition" in spec.labels else (str(report.partition),)
    return {labels + last: number for labels, number in spec.samples(report).items()}


def _family(spec: MetricSpec, samples: Mapping[Labels, float]) -> Any:
    make = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
    of_partition = spec.read is not None and "partition" not in spec.labels
    family = make(spec.name, spec.help, labels=(*spec.labels, "partition") if of_partition else spec.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value)
    return family
