"""What the HTTP server answers: metrics, health and the live page, all from one board."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.http import TEXT, Answer, Route
from stream_moe.telemetry.page.live import LivePage
from stream_moe.telemetry.prometheus import CACHE_SECONDS, CONTENT_TYPE, Exporter


def make_routes(
    board: Board,
    live: Callable[[], Verdict],
    ready: Callable[[], Verdict],
    replay_events: int | None = None,
    cache_seconds: float = CACHE_SECONDS,
) -> dict[str, Route]:
    """Make the handlers of /metrics, /healthz, /readyz and the live page, by path.

    `live` and `ready` answer /healthz and /readyz: 200 or 503 with the reason. Neither path asks for a password: the
    probes of an orchestrator have none, and both say one line about the loop. `replay_events` is how long the replay
    will be, where the reports are a replay's.

    Examples
    --------
    >>> fine = lambda: Verdict(True, "running")
    >>> make_routes(Board(), fine, fine)["/readyz"].handler("").body
    b'running\\n'
    """
    exporter, page = Exporter(board, cache_seconds), LivePage(board, live, replay_events)
    return {
        "/metrics": Route(lambda query: Answer(HTTPStatus.OK, CONTENT_TYPE, exporter.exposition())),
        "/healthz": Route(lambda query: _as_answer(live()), is_probe=True),
        "/readyz": Route(lambda query: _as_answer(ready()), is_probe=True),
        "/": Route(page.answer),
    }


def _as_answer(verdict: Verdict) -> Answer:
    status = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, TEXT, f"{' '.join(verdict.reason.split())}\n".encode())
