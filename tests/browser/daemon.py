"""A real engine on a log in memory, with its server: what the browser looks at."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.files import FileCheckpointStore
from connectors.memory import PAUSE, MemoryLog, MemorySink, MemorySource, Record
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Health
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.routes import make_routes

BLOCK = 200  # events that are written at a time


class Daemon:
    """The engine and a producer, each in a thread of its own.

    Parameters
    ----------
    stream, model
        Names.
    rate
        Events that are written a second and partition.
    partitions
        How many, each with its own seed of the stream.
    """

    def __init__(self, stream: str, model: str, rate: float, partitions: int, state: Path) -> None:
        self._streams = [open_stream(stream, seed=1 + partition) for partition in range(partitions)]
        self._rate, self._log = rate, MemoryLog()
        self.board = Board()
        self._health = Health(self.board)
        self.server = TelemetryServer(make_routes(self.board, self._health.live, self._health.ready), port=0)
        schema = self._streams[0].schema
        self._log.create("events", partitions)
        self._log.append("events", PAUSE)
        self._engine = Engine(
            MemorySource(self._log, "events", "page", range(partitions)),
            MemorySink(self._log, "events", "page"),
            lambda partition: FileCheckpointStore(state / str(partition)),
            lambda its: build_model(model, its, seed=1),
            EngineSettings(model, block_rows=1024, checkpoint_seconds=1.0),
            schema=schema,
            on_report=self.board.update,
            on_group=self.board.update_group,
            on_turn=self._health.beat,
        )
        self._codec, self._headers = JsonCodec(schema), (schema_header(schema),)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._engine.run), threading.Thread(target=self._produce)]

    def _produce(self) -> None:
        sources = [stream.blocks(BLOCK) for stream in self._streams]
        sent, begin = 0, time.monotonic()
        while not self._ended.is_set():
            for partition, source in enumerate(sources):
                if (block := next(source, None)) is None:
                    return
                now = int(time.time() * 1000)
                for i, value in enumerate(self._codec.encode_events(block, sent)):
                    record = Record(value, str(sent + i).encode(), now, self._headers if sent + i == 0 else ())
                    self._log.append("events", record, partition)
            sent += BLOCK
            self._ended.wait(max(0.0, begin + sent / self._rate - time.monotonic()))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def settle(self) -> None:
        """Write no more, and wait until all is read and the server draws anew."""
        self._ended.set()
        self._threads[1].join()
        while sum(report.events_consumed for report in self.board.reports) < self._written or self._behind:
            time.sleep(0.05)
        time.sleep(1.1)  # longer than page and metrics are kept

    @property
    def _written(self) -> int:
        return sum(len(self._log.records("events", partition)) for partition in range(len(self._streams)))

    @property
    def _behind(self) -> int:
        return sum(report.lag_records for report in self.board.reports)

    def wait_for(self, events: int) -> None:
        """Wait until so many events of every partition are learnt."""
        while min([report.quality.events for report in self.board.reports] or [0]) < events:
            if not self._threads[0].is_alive():
                raise RuntimeError("the engine ended")
            time.sleep(0.05)

    def stop(self) -> None:
        self._ended.set()
        self._engine.stop()
        for thread in self._threads:
            thread.join()
        self.server.close()


@contextmanager
def daemon(stream: str, model: str, rate: float, partitions: int = 1) -> Iterator[Daemon]:
    """Run one for a while."""
    with tempfile.TemporaryDirectory() as state:
        running = Daemon(stream, model, rate, partitions, Path(state))
        running.start()
        try:
            yield running
        finally:
            running.stop()
