"""The live page and /metrics of a replay: what the daemon serves, made of the replay's progress."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stream_moe.cli.outputs import Ended, Output, Standing, timed_marks
from stream_moe.cli.terminal import say
from stream_moe.report import DriftReport, GroupReport, PartitionReport
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.routes import make_routes

if TYPE_CHECKING:
    from stream_moe.ports import Stream

EVERY_SECONDS = 0.5  # a report takes about a millisecond
_log = logging.getLogger(__name__)


class ReplayPage(Output):
    """Serves a replay of at most so many events, None = all, on 127.0.0.1; ConfigError when the port is taken.

    With `hold` it serves on at the end, until Ctrl-C; `spoken` says that a person reads stdout, `answers` by which
    rule is answered.
    """

    def __init__(
        self, stream: Stream, events: int | None, port: int | None, hold: bool, spoken: bool, answers: str = ""
    ) -> None:
        self._stream, self._hold, self._spoken, self._answers = stream, hold, spoken, answers
        self._done = 0
        self._board = Board()
        wanted = min((n for n in (events, stream.n_events) if n is not None), default=0)
        fine = Verdict(True, "a replay")
        self._server = TelemetryServer(
            make_routes(self._board, lambda: fine, lambda: fine, wanted),
            port=port,
            way_out="choose another port with --serve-port (0 = any free one)",
        )
        self._board.update_group(GroupReport("running", (0,)))
        if spoken:
            say(f"live page at {self._server.url}")
        else:
            _log.info("live page at %s", self._server.url)

    def marks(self) -> Iterator[int]:
        return timed_marks(EVERY_SECONDS)

    def progress(self, at: Standing) -> None:
        self._publish(at, "running")

    def end(self, ended: Ended) -> None:
        if (found := ended.replay) is not None:
            at = Standing(found.events, found.seconds, found.quality, found.learner, drift=found.drift)
            self._publish(at, "stopped")
        self._board.update_group(GroupReport("stopped", (0,)))
        if self._hold:
            if self._spoken:
                say(f"\nthe live page stays at {self._server.url} ; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            self._server.close()

    def _publish(self, at: Standing, state: str) -> None:
        self._board.update(
            PartitionReport(
                state=state,
                topic=self._stream.name,
                partition=0,
                classes=self._stream.schema.classes,
                learner=at.learner,
                quality=at.quality,
                events_consumed=at.events,
                block_size=at.events - self._done,
                drift=at.drift or DriftReport(),
                answers=self._answers,
            )
        )
        self._done = at.events
