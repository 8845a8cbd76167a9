"""Run an engine with everything around it: metrics over HTTP, signals, progress, the result."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from stream_moe.cli.console import ProgressTable
from stream_moe.errors import ConfigError

if TYPE_CHECKING:
    from stream_moe.engine.loop import Engine
    from stream_moe.report import EngineReport
    from stream_moe.telemetry.access import Access
    from stream_moe.telemetry.health import Health
    from stream_moe.telemetry.http import TelemetryServer
    from stream_moe.telemetry.metrics import EngineMetrics

DEFAULT_METRICS_PORT = 9108


class Serving:
    """Metrics, health and an HTTP server for one engine.

    Parameters
    ----------
    host, port
        Where to listen; port None = the default port, or any free one if that is taken.
    quiet
        No progress rows.
    access
        TLS and passwords; None = neither.
    """

    def __init__(self, host: str, port: int | None, quiet: bool, access: Access | None = None) -> None:
        from stream_moe.telemetry.health import Health
        from stream_moe.telemetry.metrics import EngineMetrics

        self.metrics: EngineMetrics = EngineMetrics()
        self.health: Health = Health(self.metrics)
        self.server: TelemetryServer = self._listen(host, port, access)
        self.table = ProgressTable(quiet)
        self._first: tuple[float, float, int] | None = None  # time, CPU time and events after the first block
        self._last: tuple[float, float, int] = (0.0, 0.0, 0)
        self._phases: Counter[str] = Counter()  # seconds, of the blocks after the first

    def _listen(self, host: str, port: int | None, access: Access | None) -> TelemetryServer:
        from stream_moe.telemetry.access import Access
        from stream_moe.telemetry.http import TelemetryServer

        def listen(at: int) -> TelemetryServer:
            return TelemetryServer(self.metrics, self.health.live, self.health.ready, host, at, access or Access())

        if port is not None:
            return listen(port)
        try:
            return listen(DEFAULT_METRICS_PORT)
        except ConfigError:  # nobody asked for this very port
            return listen(0)

    def on_report(self, report: EngineReport) -> None:
        """Publish a report and print a progress row if one is due."""
        self.metrics.update(report)
        if report.block_size:
            now, cpu = time.perf_counter(), time.process_time()
            if self._first is not None:
                self._phases.update(report.step_seconds)
            self._first = self._first or (now, cpu, report.events_consumed)
            self._last = (now, cpu, report.events_consumed)
            self.table.update(report.quality.events, now - self._first[0], report.quality, report.learner)

    def result(self, engine: Engine, started: float) -> dict[str, Any]:
        """The result of a finished run, in the fields of a replay's, plus the flow of records.

        The speed excludes the first block, in which code is compiled and memory is first touched.
        """
        from stream_moe.evaluation.prequential import ReplayResult

        quality, learner = engine.quality.report(), engine.learner.report()
        first, last = self._first or (time.perf_counter(), time.process_time(), 0), self._last
        seconds, cpu_seconds = max(last[0] - first[0], 0.0), max(last[1] - first[1], 0.0)
        replayed = ReplayResult(
            quality.events, seconds, cpu_seconds, first[0] - started, engine.learner.digest, quality, learner,
            dict(self._phases),
        )  # fmt: skip
        report = self.metrics.report
        assert report is not None
        return replayed.to_dict() | {
            "events_per_second": (last[2] - first[2]) / seconds if seconds else 0.0,
            "events_per_cpu_second": (last[2] - first[2]) / cpu_seconds if cpu_seconds else 0.0,
            "predictions": report.predictions_committed,
            "dead_letters": report.dead_letters,
            "labels": report.labels_consumed,
            "pending_events": report.pending_events,
            "replayed_events": report.replayed_events,
            "transactions": report.transactions_committed,
        }


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM or SIGINT asks the engine to drain; a second one is obeyed at once."""

    def first(number: int, frame: object) -> None:
        typer.echo(f"stream-moe: {signal.Signals(number).name}: finishing the block", err=True)
        for kind, handler in former.items():
            signal.signal(kind, handler)
        stop()

    former = {kind: signal.signal(kind, first) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in former.items():
            signal.signal(kind, handler)
