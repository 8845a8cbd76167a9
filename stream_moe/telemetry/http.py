"""A small HTTP server for /metrics, /healthz, /readyz and the live page.

It shares the process with the engine, so it is built to stay harmless: loopback by default, one request per
connection, a bounded number of connections, and a deadline on each, whatever the client does. Beyond loopback it
can ask for a password and speak TLS.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any

from stream_moe.errors import ConfigError
from stream_moe.telemetry.access import Access
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.page.live import POLICY, LivePage
from stream_moe.telemetry.prometheus import CONTENT_TYPE, EngineMetrics

logger = logging.getLogger(__name__)

DEFAULT_PORT = 9108
OPEN_PATHS = ("/healthz", "/readyz")  # without a password
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
# An answer costs the engine about half a millisecond, as they share the interpreter lock. So many are given a second
# in the long run, and so many at once after a quiet time; a Prometheus and ten open pages ask for three a second.
# Other connections are closed unread, which costs a third of that, but for probes, whose failure would end the
# process; beyond so many a second, connections wait in the kernel, or are dropped there, for nothing.
ANSWERS, BURST = 15.0, 50.0
PROBES = 5.0
CONNECTIONS = 50.0
_POLL_SECONDS = 0.1  # how late a deadline or `close` may be noticed


class TelemetryServer:
    """Serves an engine's metrics and health from a daemon thread.

    Parameters
    ----------
    metrics
        Holds the latest report.
    live, ready
        Answer /healthz and /readyz: 200 or 503 with the reason. Usually `Health.live` and `Health.ready`.
    host, port
        Where to listen. Port 0 takes any free one; `port` tells which.
    access
        TLS and basic authentication. /healthz and /readyz ask for no password: the probes of an orchestrator
        have none, and both say one line about the loop.
    max_connections
        Open connections at a time; when another comes, the oldest one is cut.
    deadline
        Seconds after which a connection is cut, however far it got.
    replay_events
        How long the replay will be, where the reports are a replay's.
    port_option
        What the command line calls the port, for the message when it cannot be had.

    Raises
    ------
    ConfigError
        When the address cannot be listened on.

    Examples
    --------
    >>> from stream_moe.telemetry.health import Health
    >>> metrics = EngineMetrics()
    >>> health = Health(metrics)
    >>> with TelemetryServer(metrics, health.live, health.ready, port=0) as server:
    ...     server.url == f"http://127.0.0.1:{server.port}/"
    True
    """

    def __init__(
        self,
        metrics: EngineMetrics,
        live: Callable[[], Verdict],
        ready: Callable[[], Verdict],
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        access: Access = Access(),  # noqa: B008 (immutable)
        max_connections: int = 16,
        deadline: float = 5.0,
        replay_events: int | None = None,
        port_option: str = "--metrics-port",
    ) -> None:
        page = LivePage(metrics, live, replay_events)

        def draw(query: str) -> Answer:
            status, body = page.answer(query)
            return status, HTML if status == HTTPStatus.OK else TEXT, body

        routes: dict[str, Callable[[str], Answer]] = {
            "/metrics": lambda _: (HTTPStatus.OK, CONTENT_TYPE, metrics.exposition()),
            "/healthz": lambda _: _answer(live()),
            "/readyz": lambda _: _answer(ready()),
            "/": draw,
        }
        try:
            self._server = _Server((host, port), routes, access, max_connections, deadline)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(
                f"cannot serve metrics on {host}:{port}: {reason}; choose another port with {port_option} "
                f"(0 = any free one){'' if replay_events is not None else ' or address with --metrics-host'}"
            ) from None
        self.host = host
        self._scheme = "https" if access.tls else "http"
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="telemetry-http", daemon=True
        )
        self._thread.start()
        exposure = access.exposure(host)
        if exposure:
            logger.warning("%s: %s", self.url, exposure)

    @property
    def url(self) -> str:
        """Address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self._scheme}://{host}:{self.port}/"

    def close(self) -> None:
        """Stop listening and cut what is open; safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> TelemetryServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Answer = tuple[HTTPStatus, str, bytes]


def _answer(verdict: Verdict) -> Answer:
    status = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return status, TEXT, f"{' '.join(verdict.reason.split())}\n".encode()


class _Bucket:
    """Lets `rate` a second through, `burst` at once after a quiet time."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._counted = burst, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._counted) * self._rate)
        self._counted = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _asks_for_health(request: socket.socket) -> bool:
    """Whether what has come so far, which stays to be read, asks for a probe's answer."""
    try:
        start = socket.socket.recv(request, 16, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (OSError, ValueError):
        return False
    return start.startswith(tuple(f"GET {path}".encode() for path in OPEN_PATHS))


class _Workers:
    """At most `most` threads that are kept: on some systems a new thread costs more than an answer."""

    def __init__(self, most: int) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._most, self._started, self._busy = most, 0, 0

    def submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._busy += 1
            lacking = self._busy > self._started and self._started < self._most
            self._started += lacking
        if lacking:  # a daemon: a slow client never keeps the process alive
            threading.Thread(target=self._work, name="telemetry-answer", daemon=True).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            finally:
                with self._lock:
                    self._busy -= 1

    def close(self) -> None:
        """Let each thread end when it has done its work."""
        with self._lock:
            for _ in range(self._started):
                self._jobs.put(None)


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(
        self,
        address: tuple[str, int],
        routes: dict[str, Callable[[str], Answer]],
        access: Access,
        max_connections: int,
        deadline: float,
    ) -> None:
        self.access = access
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.routes = routes
        self.deadline = deadline
        self._max_connections = max_connections
        self._opened: dict[socket.socket, float] = {}  # oldest first
        self._opened_lock = threading.Lock()
        # Some more than connections: those of connections just cut are still on their way out.
        self._workers = _Workers(max_connections + 4)
        self._turns, self._probes = _Bucket(ANSWERS, BURST), _Bucket(PROBES, BURST)
        self._accepts = _Bucket(CONNECTIONS, BURST)
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        if not self._accepts.take():
            time.sleep(1.0 / CONNECTIONS)
        request, address = super().get_request()
        if self.access.tls is not None:
            # The handshake waits for the client, so it is the connection's own thread that does it.
            request = self.access.tls.context().wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        if isinstance(request, ssl.SSLSocket):
            request.do_handshake()
        super().finish_request(request, client_address)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is time for this connection; one for which there is none is closed."""
        return self._turns.take() or (_asks_for_health(request) and self._probes.take())

    # `process_request`, `service_actions` and `server_close` run on the serving thread, `shutdown_request` on
    # the connection's own. Cutting means shutting the socket down: its thread reads an end and closes it.
    def process_request(self, request: Any, client_address: Any) -> None:
        with self._opened_lock:
            while len(self._opened) >= self._max_connections:
                self._cut(next(iter(self._opened)))
            self._opened[request] = time.monotonic() + self.deadline
        self._workers.submit(lambda: self._answer(request, client_address))

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections past their deadline; `serve_forever` calls this at every poll."""
        now = time.monotonic()
        with self._opened_lock:
            for request in [request for request, deadline in self._opened.items() if deadline < now]:
                self._cut(request)

    def shutdown_request(self, request: Any) -> None:
        with self._opened_lock:
            self._opened.pop(request, None)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._opened_lock:
            for request in list(self._opened):
                self._cut(request)
        self._workers.close()

    def _cut(self, request: socket.socket) -> None:
        del self._opened[request]
        with contextlib.suppress(OSError):  # the client was faster
            # Of the socket itself: an SSLSocket would also drop what the connection's thread is reading with.
            socket.socket.shutdown(request, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note that a client went away, which is no news; the default prints a traceback."""
        logger.debug("connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "stream_moe"
    sys_version = ""
    error_content_type = TEXT
    error_message_format = "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        route = self.server.routes.get(path)
        if route is None:
            known = " ".join(self.server.routes)
            self._reply(HTTPStatus.NOT_FOUND, TEXT, f"not here; try {known}\n".encode())
            return
        if self._must_log_in():
            self._reply(HTTPStatus.UNAUTHORIZED, TEXT, b"who are you? user name and password, please\n")
            return
        try:
            status, content_type, body = route(query)
        except Exception:  # a fault in a view must not look like a fault of the network
            logger.exception("cannot answer %s", path)
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, b"internal error, see the log\n")
        else:
            self._reply(status, content_type, body)

    do_HEAD = do_GET  # noqa: N815 (the name is http.server's)

    def _must_log_in(self) -> bool:
        auth = self.server.access.auth
        if auth is None or self.path.partition("?")[0] in OPEN_PATHS:
            return False
        return not auth.permits(self.headers.get("Authorization"))

    def _not_allowed(self) -> None:
        self._reply(HTTPStatus.METHOD_NOT_ALLOWED, TEXT, b"only GET and HEAD\n")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _not_allowed  # noqa: N815

    def _reply(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if content_type == HTML:
            self.send_header("Content-Security-Policy", POLICY)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="stream_moe", charset="UTF-8"')
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every few seconds says nothing, and lines would carry what clients send."""
