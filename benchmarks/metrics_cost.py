"""What telemetry costs: its CPU time as a share of everything else that the daemon's loop does, both of the same run.

Events go as JSON through the whole loop (decode, learn, encode, commit, with a log in memory, which costs less than a
broker). `time.thread_time` around what is there only to be watched: the drift detectors, the reports, the metrics and
the past of the live page. The first half of the run is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record
from stream_moe.drift.watch import DriftWatch
from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.engine.task import Task
from stream_moe.models.catalogue import build_model
from stream_moe.report import PartitionReport
from stream_moe.streams import open_stream
from stream_moe.telemetry.board import Board


class Clock:
    """CPU seconds of this thread spent inside the functions that were put under it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def under(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            begin = time.thread_time()
            try:
                return work(*args)
            finally:
                self.seconds += time.thread_time() - begin

        return timed


def telemetry_share(model: str, stream: str, events: int) -> tuple[float, float, float]:
    """Return telemetry's share of the rest in percent, the detectors' share, and the rest's events/CPU-second."""
    source, log = open_stream(stream), MemoryLog()
    codec, sent, now = JsonCodec(source.schema), 0, int(time.time() * 1000)
    for block in source.blocks(1000):
        if sent >= events:
            break
        for value in codec.encode_events(block, sent):
            log.append("events", Record(value, str(sent).encode(), now))
            sent += 1
    log.append("events", EOF)
    clock, watching, board = Clock(), Clock(), Board()
    half: list[tuple[int, float, float, float]] = []

    def on_report(report: PartitionReport) -> None:
        board.update(report)
        if not half and report.events_consumed > events // 2:
            half.append((report.events_consumed, time.thread_time(), clock.seconds, watching.seconds))

    with (
        TemporaryDirectory() as state,
        patch.object(DriftWatch, "update", clock.under(watching.under(DriftWatch.update))),
        patch.object(Task, "report", clock.under(Task.report)),
        patch.object(Board, "update", clock.under(Board.update)),
    ):
        Engine(
            MemorySource(log, "events", "cost"),
            MemorySink(log, "events", "cost"),
            lambda partition: FileCheckpointStore(Path(state) / str(partition)),
            lambda schema: build_model(model, schema),
            EngineSettings(model),
            schema=source.schema,
            on_report=on_report,
            on_group=board.update_group,
        ).run()
    ((done, begin, spent, watched),) = half
    spent, watched = clock.seconds - spent, watching.seconds - watched
    rest = time.thread_time() - begin - spent
    return 100 * spent / rest, 100 * watched / rest, (sent - done) / rest
