"""The live page and /metrics of a replay: what the daemon serves, made of the replay's progress."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stream_moe.report import GroupReport, PartitionReport
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.routes import make_routes

if TYPE_CHECKING:
    from stream_moe.ports import Stream
    from stream_moe.report import DriftReport, LearnerReport, QualityReport

EVERY_SECONDS = 0.5  # a report takes about a millisecond
FIRST_MARK = 256  # events


class ReplayPage:
    """Serves a replay on 127.0.0.1.

    Parameters
    ----------
    stream
        What is replayed.
    events
        How many events at most; None = all.
    port
        Where to listen, 0 = any free port; None = the default one, or any if that is taken.

    Raises
    ------
    ConfigError
        When the port is taken.
    """

    def __init__(self, stream: Stream, events: int | None, port: int | None) -> None:
        self._stream, self._done, self._shown_at = stream, 0, time.perf_counter()
        self._board = Board()
        wanted = min((n for n in (events, stream.n_events) if n is not None), default=0)
        fine = Verdict(True, "a replay")
        self._server = TelemetryServer(
            make_routes(self._board, lambda: fine, lambda: fine, wanted),
            port=port,
            way_out="choose another port with --serve-port (0 = any free one)",
        )
        self.url = self._server.url
        self._board.update_group(GroupReport("running", (0,)))

    def marks(self) -> Iterator[int]:
        """Yield the numbers of events at which `show` is due, ascending: about one every half second."""
        mark = FIRST_MARK
        while True:
            before, asked = self._done, self._shown_at
            yield mark
            speed = (self._done - before) / max(time.perf_counter() - asked, 1e-6)
            step = int(speed * EVERY_SECONDS)
            mark += min(max(step, 1), mark)  # doubling at most: the first events are no measure

    def show(
        self,
        events: int,
        quality: QualityReport,
        learner: LearnerReport,
        drift: DriftReport,
        is_last: bool = False,
    ) -> None:
        """Publish where the replay stands."""
        state = "stopped" if is_last else "running"
        self._board.update(
            PartitionReport(
                state=state,
                topic=self._stream.name,
                partition=0,
                classes=self._stream.schema.classes,
                learner=learner,
                quality=quality,
                events_consumed=events,
                block_size=events - self._done,
                drift=drift,
            )
        )
        if is_last:
            self._board.update_group(GroupReport(state, (0,)))
        self._done, self._shown_at = events, time.perf_counter()

    def hold(self) -> None:
        """Keep serving until Ctrl-C, then close."""
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        self._server.close()
