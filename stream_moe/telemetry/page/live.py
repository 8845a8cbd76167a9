"""The live page at `/`: whether it is well, what drifted, and which expert does what.

The server draws everything (`templates/live.html`); a small script of the page's own only loads it anew in place.
Nothing comes from outside, and the policy allows no other script or style than the two whose digests it names.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from importlib import resources
from urllib.parse import parse_qsl

from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.history import SPANS
from stream_moe.telemetry.http import HTML, TEXT, Answer
from stream_moe.telemetry.page import sections
from stream_moe.telemetry.page.html import environment
from stream_moe.telemetry.page.view import View, look

REFRESH_SECONDS = 5
# A view is drawn at most once in `CACHE_SECONDS` and all views together at most once in `GAP_SECONDS`, whoever asks:
# the engine shares the interpreter lock.
CACHE_SECONDS = 1.0
GAP_SECONDS = 0.25


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


STYLE, SCRIPT = _asset("live.css"), _asset("live.js")
_TEMPLATE = environment().get_template("live.html")
POLICY = (
    f"default-src 'none'; style-src {_source(STYLE)}; script-src {_source(SCRIPT)}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LivePage:
    """Draws the page of one process; `replay_events` is how long the replay will be, where the reports are one's.

    Examples
    --------
    >>> page = LivePage(Board(), lambda: Verdict(True, "the loop turns"))
    >>> answer = page.answer("")
    >>> int(answer.status), b"the first block is not finished" in answer.body
    (200, True)
    """

    def __init__(self, board: Board, live: Callable[[], Verdict], replay_events: int | None = None) -> None:
        self._board, self._live, self._replay_events = board, live, replay_events
        self._lock = threading.Lock()  # of many who ask one draws, the others wait for its bytes
        self._drawn: dict[tuple[int | None, str | None], tuple[float, bytes]] = {}
        self._last = -GAP_SECONDS

    def answer(self, query: str) -> Answer:
        """Return the page that a query such as `partition=3&span=day` asks for, or one line on what is wrong."""
        asked = dict(parse_qsl(query))
        span, name = asked.get("span"), asked.get("partition")
        if span is not None and span not in SPANS:
            return _not_here(f"span: choose one of {', '.join(SPANS)}\n")
        held = [report.partition for report in self._board.reports]
        partition = int(name) if name is not None and name.isascii() and name.isdigit() and len(name) < 10 else None
        if name is not None and partition not in held:
            known = ", ".join(map(str, held)) or "none yet"
            return _not_here(f"partition: not one of this process; it has {known}\n")
        return Answer(HTTPStatus.OK, HTML, self._cached((partition, span)), {"Content-Security-Policy": POLICY})

    def _cached(self, key: tuple[int | None, str | None]) -> bytes:
        with self._lock:
            now = time.monotonic()
            if key in self._drawn and now - self._drawn[key][0] < CACHE_SECONDS:
                return self._drawn[key][1]
            time.sleep(max(0.0, self._last + GAP_SECONDS - now))
            body = render(look(self._board, self._live(), *key, self._replay_events)).encode()
            now = self._last = time.monotonic()
            fresh = {k: each for k, each in self._drawn.items() if now - each[0] < CACHE_SECONDS}
            self._drawn = fresh | {key: (now, body)}
            return body


def _not_here(words: str) -> Answer:
    return Answer(HTTPStatus.NOT_FOUND, TEXT, words.encode())


def render(view: View) -> str:
    """Lay a view out as a page."""
    now = time.strftime("%H:%M:%S", time.gmtime())
    own = {"view": view, "style": STYLE, "script": SCRIPT, "refresh": REFRESH_SECONDS, "now": now}
    return _TEMPLATE.render(own | sections.of(view))
