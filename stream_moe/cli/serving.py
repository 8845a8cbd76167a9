"""Run an engine with everything around it: metrics over HTTP, signals, progress, the result."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stream_moe.cli.outputs import Ended, Flow, OutputList, Standing
from stream_moe.cli.signals import stop_on_signals
from stream_moe.cli.terminal import say
from stream_moe.engine.loop import Engine
from stream_moe.engine.replay import ReplayResult
from stream_moe.errors import StuckError
from stream_moe.report import GroupReport, PartitionReport, drifts_by_scope, total_learner, total_quality
from stream_moe.telemetry.access import Access
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Health
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.routes import make_routes

if TYPE_CHECKING:
    from connectors.kafka import KafkaSource

STUCK_SECONDS = 300  # a turn is at most a block, a commit and the copy of a checkpoint


class Serving:
    """The board, health and the HTTP server of one engine; `outputs` are what becomes of the run."""

    def __init__(
        self,
        host: str,
        port: int | None,
        outputs: OutputList,
        access: Access | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.board = Board()
        self.health = Health(self.board)
        routes = make_routes(self.board, self.health.live, self.health.ready)
        self.server = TelemetryServer(routes, host, port, access or Access(), names)
        self.outputs = outputs
        self._first: tuple[float, float, int] | None = None  # time, CPU time and events after the first block
        self._last: tuple[float, float, int] = (0.0, 0.0, 0)
        self._seen: dict[int, int] = {}  # events of each partition
        self._phases: Counter[str] = Counter()  # seconds, of the blocks after the first

    def run(
        self,
        make_engine: Callable[..., Engine],
        about: dict[str, Any],
        started: float,
        on_signal: Callable[[], None] = lambda: None,
    ) -> None:
        """Run an engine to its end, or until a signal; hand its progress and its result to the outputs.

        `about` are the first fields of the result, `started` the `time.perf_counter()` at which the command began;
        `on_signal` is called before the engine is asked to stop.
        """
        engine = make_engine(on_report=self.on_report, on_group=self.on_group, on_turn=self.health.beat)

        def stop() -> None:
            on_signal()
            engine.stop()

        with self.outputs:
            with stop_on_signals(stop):
                engine.run()
            self.outputs.end(Ended(about | self.result(engine, started)))

    def on_report(self, report: PartitionReport) -> None:
        """Publish a report and show where the run stands."""
        self.board.update(report)
        if not report.block_size:
            if self._first is not None and report is self.board.reports[-1]:  # the last of an idle turn
                self._show()
            return
        now, cpu, events = time.perf_counter(), time.process_time(), report.events_consumed
        if self._first is not None:
            self._phases.update(report.step_seconds)
        before = self._seen.get(report.partition, events - report.block_size)
        self._seen[report.partition] = events
        self._last = (now, cpu, self._last[2] + max(0, events - before))
        self._first = self._first or self._last
        self._show()

    def _show(self) -> None:
        """Show the partitions held as one run: counts are sums, lags the worst."""
        held = self.board.reports
        if not self.outputs.is_due(sum(each.quality.events for each in held)):
            return
        quality = total_quality([each.quality for each in held])
        learner = total_learner([each.learner for each in held], [each.quality.events for each in held])
        kept = [each.checkpoint_time for each in held]
        drifts: Counter[str] = Counter()
        for (scope, _), count in (found for each in held for found in each.drift.detections.items()):
            drifts[scope] += count
        flow = Flow(
            partitions=len(held),
            events=sum(each.events_consumed for each in held),
            pending_events=sum(each.pending_events for each in held),
            lag_records=sum(each.lag_records for each in held),
            lag_seconds=max(each.lag_seconds for each in held),
            drifts=drifts,
            checkpoint_time=None if None in kept else min(time for time in kept if time is not None),
        )
        seconds = self._last[0] - self._first[0] if self._first is not None else 0.0
        self.outputs.progress(Standing(quality.events, seconds, quality, learner, flow))

    def on_group(self, report: GroupReport) -> None:
        """Publish the group's report."""
        self.board.update_group(report)
        self.outputs.state(report.state)

    def result(self, engine: Engine, started: float) -> dict[str, Any]:
        """The result of a finished run, in the fields of a replay's, plus the flow of records.

        With several partitions these are totals (ratios weighted by labelled events, the digest that of the
        partitions' digests in order), and `partitions` has each one's. The speed excludes the first block, in which
        code is compiled and memory is first touched.
        """
        digests = engine.digests()
        reports = [each for each in self.board.reports if each.partition in digests]
        if not reports:  # the group had no partition for us, or none with a record
            return {"events": 0, "predictions": 0, "partitions": []}
        quality = total_quality([each.quality for each in reports])
        learner = total_learner([each.learner for each in reports], [each.quality.events for each in reports])
        first, last = self._first or (time.perf_counter(), time.process_time(), 0), self._last
        seconds, cpu_seconds = max(last[0] - first[0], 0.0), max(last[1] - first[1], 0.0)
        lines = "".join(f"{partition} {digest}\n" for partition, digest in sorted(digests.items()))
        digest = next(iter(digests.values())) if len(digests) == 1 else hashlib.sha256(lines.encode()).hexdigest()
        replayed = ReplayResult(
            quality.events, seconds, cpu_seconds, first[0] - started, digest, quality, learner, dict(self._phases)
        )
        dead: Counter[str] = Counter()
        drifts: Counter[str] = Counter()
        for each in reports:
            drifts.update(drifts_by_scope(each.learner, each.drift))
            dead.update(each.dead_letters)
        return replayed.to_dict() | {
            "classes": list(reports[0].classes),
            "events_per_second": (last[2] - first[2]) / seconds if seconds else 0.0,
            "events_per_cpu_second": (last[2] - first[2]) / cpu_seconds if cpu_seconds else 0.0,
            "predictions": sum(each.predictions_committed for each in reports),
            "drifts_by_scope": dict(drifts),
            "dead_letters": dict(dead),
            **_inputs(reports),
            "labels": sum(each.labels.received for each in reports),
            "pending_events": sum(each.pending_events for each in reports),
            "replayed_events": sum(each.replayed_events for each in reports),
            "recovery_seconds": max(each.recovery_seconds for each in reports),
            "transactions": sum(each.transactions_committed for each in reports),
            "partitions": [
                {
                    "partition": each.partition,
                    "position": engine.tasks[each.partition].position,
                    "state_digest": digests[each.partition],
                    "predictions": each.predictions_committed,
                    **{name: getattr(each.quality, name) for name in ("events", "accuracy", "log_loss")},
                    "replayed_events": each.replayed_events,
                }
                for each in reports
            ],
        }


def _inputs(reports: Sequence[PartitionReport]) -> dict[str, Any]:
    """What records brought that is no feature, and which features are gone."""
    names: Counter[str] = Counter()
    found = [each.inputs for each in reports if each.inputs is not None]
    for each in found:
        names.update(each.names)
    gone = {name for each in found for name in each.gone}
    grown: Counter[str] = Counter()
    for each in found:
        grown.update(each.grown)
    return {
        "unknown_names": dict(names),
        "unknown_categories": sum(int(each.categories.sum()) for each in found),
        "features_gone": sorted(gone),
        "schema_grown": {kind: n for kind, n in grown.items() if n},
    }


class KafkaServing(Serving):
    """As `Serving`, with what is Kafka's: the watchdog's count, and the client's log from the first report on.

    Before, a broker that is not there is one line of ours, not fifty of the client's.
    """

    def __init__(self, events: KafkaSource, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._events, self._client_log = events, logging.getLogger("kafka")
        self._client_log.setLevel(logging.CRITICAL)

    def on_report(self, report: PartitionReport) -> None:
        self._client_log.setLevel(logging.WARNING)
        super().on_report(report)

    def on_group(self, report: GroupReport) -> None:
        super().on_group(replace(report, watchdog_fired=self._events.watchdog.fired))


@contextmanager
def ended_if_stuck(health: Health, seconds: int = STUCK_SECONDS) -> Iterator[None]:
    """End the process with exit code 75 when the loop has not turned for so long, whatever it waits for.

    Calls that are known to wait without a deadline have one of ours, which is shorter; this is for the others. The
    seconds are those in which this process ran: one that was stopped, or whose machine slept, is not stuck.
    """
    done = threading.Event()

    def watch() -> None:
        beats, silent = health.beats, 0
        while not done.wait(1.0):
            beats, silent = health.beats, silent + 1 if health.beats == beats else 0
            if silent >= seconds:
                say(f"stream-moe: the loop stands still for {seconds} s; start again", err=True)
                os._exit(StuckError.exit_code)

    threading.Thread(target=watch, name="stuck", daemon=True).start()
    try:
        yield
    finally:
        done.set()
