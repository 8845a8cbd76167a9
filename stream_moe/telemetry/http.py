"""A small HTTP server for the routes that it is given.

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
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from stream_moe.errors import ConfigError
from stream_moe.telemetry import DEFAULT_PORT
from stream_moe.telemetry.access import Access
from stream_moe.telemetry.budgets import Bucket, Budget, network_of
from stream_moe.telemetry.names import Names

logger = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
# An answer costs the engine about half a millisecond, as they share the interpreter lock. So many are given a second
# in the long run, and so many at once after a quiet time; a Prometheus and ten open pages ask for three a second. Who
# asks for more is told so, which costs a third of that. Probes, whose failure would end the process, are answered
# whatever else is asked for.
ANSWERS, BURST = 15.0, 50.0
# So many connections are taken a second, with their handshakes over TLS, each a millisecond outside of that lock. Of
# each budget one address gets two thirds (`Budget`). Other connections are closed unread; beyond so many calls a
# second they wait in the kernel, or are dropped there, for nothing.
CONNECTIONS = 90.0
CALLS = 1000.0
_POLL_SECONDS = 0.1  # how late a deadline or `close` may be noticed


class Answer(NamedTuple):
    """What a path answers."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


class Route(NamedTuple):
    """What is at a path: `handler` answers a query; a probe needs no password, and answers are set aside for it."""

    handler: Callable[[str], Answer]
    is_probe: bool = False


class TelemetryServer(contextlib.AbstractContextManager["TelemetryServer"]):
    """Serves routes from a daemon thread; ConfigError, with the `way_out`, when it cannot listen on the address.

    Port 0 takes any free one, None the default port, or any free one if that is taken; `port` has the number. Without
    a password it answers only to its own names (`Names`), to which `names` are added. When more than
    `max_connections` are open the oldest one of the address that holds most is cut, and each is after `deadline`
    seconds, however far it got.

    Examples
    --------
    >>> hello = Route(lambda query: Answer(HTTPStatus.OK, TEXT, b"hello"))
    >>> with TelemetryServer({"/": hello}, port=0) as server:
    ...     server.url == f"http://127.0.0.1:{server.port}/"
    True
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        host: str = "127.0.0.1",
        port: int | None = None,
        access: Access = Access(),  # noqa: B008 (immutable)
        names: Sequence[str] = (),
        max_connections: int = 32,
        deadline: float = 5.0,
        way_out: str = "choose another port with --metrics-port (0 = any free one) or address with --metrics-host",
    ) -> None:
        def listen(at: int) -> _Server:
            try:
                return _Server((host, at), routes, access, Names((host, *names)), max_connections, deadline)
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise ConfigError(f"cannot serve metrics on {host}:{at}: {reason}; {way_out}") from None

        try:
            self._server = listen(DEFAULT_PORT if port is None else port)
        except ConfigError:
            if port is not None:
                raise
            self._server = listen(0)  # nobody asked for the default port
        self.host = host
        self._scheme = "https" if access.tls else "http"
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="telemetry-http", daemon=True
        )
        self._thread.start()
        if exposure := access.exposure(host):
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

    def __exit__(self, *_: object) -> None:
        self.close()


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


class _Opened(NamedTuple):
    deadline: float  # of time.monotonic()
    address: str  # of the client


class _Server(socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        routes: Mapping[str, Route],
        access: Access,
        names: Names,
        most: int,
        deadline: float,
    ) -> None:
        self.access, self.routes, self.deadline, self._max_connections = access, routes, deadline, most
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.names = names
        self._opened: dict[socket.socket, _Opened] = {}  # oldest first
        self._opened_lock = threading.Lock()
        # Some more than connections: those of connections just cut are still on their way out.
        self._workers = _Workers(most + 4)
        self.turns, self._connections = Budget(ANSWERS, BURST), Budget(CONNECTIONS, CONNECTIONS)
        self._calls = Bucket(CALLS, CALLS, time.monotonic())
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        if not self._calls.take(time.monotonic()):
            time.sleep(1.0 / CALLS)
        return super().get_request()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is time for this connection; one for which there is none is closed, unread."""
        return self._connections.take(client_address[0])

    # `process_request`, `service_actions` and `server_close` run on the serving thread, `shutdown_request` on
    # the connection's own. Cutting means shutting the socket down: its thread reads an end and closes it.
    def process_request(self, request: Any, client_address: Any) -> None:
        if self.access.tls is not None:
            # The handshake waits for the client, so it is the connection's own thread that does it.
            request = self.access.tls.context().wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        address = network_of(client_address[0])
        with self._opened_lock:
            while len(self._opened) >= self._max_connections:
                # The oldest of whoever has most: who opens many makes room for the others.
                held = Counter(each.address for each in self._opened.values())
                most = max(held.values())
                self._cut(next(r for r, each in self._opened.items() if held[each.address] == most))
            self._opened[request] = _Opened(time.monotonic() + self.deadline, address)
        self._workers.submit(lambda: self._answer(request, client_address))

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections past their deadline; `serve_forever` calls this at every poll."""
        now = time.monotonic()
        with self._opened_lock:
            for request in [request for request, each in self._opened.items() if each.deadline < now]:
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
        probes, address = route is not None and route.is_probe, self.client_address[0]
        if not probes and not self.server.turns.take(address):
            wait = {"Retry-After": "1"}
            self._reply(HTTPStatus.TOO_MANY_REQUESTS, TEXT, b"too many requests; ask less often\n", wait)
            return
        auth = self.server.access.auth
        # A page of somebody else's knows no password, so what asks for one needs no such rule.
        if not probes and auth is None and not self.server.names.has(self.headers.get("Host")):
            said = b"this server does not go by that name; use its address, or allow the name: --metrics-name\n"
            self._reply(HTTPStatus.MISDIRECTED_REQUEST, TEXT, said)
            return
        if route is None:
            known = " ".join(self.server.routes)
            self._reply(HTTPStatus.NOT_FOUND, TEXT, f"not here; try {known}\n".encode())
            return
        if not (probes or auth is None or auth.permits(self.headers.get("Authorization"), address)):
            asks = {"WWW-Authenticate": 'Basic realm="stream_moe", charset="UTF-8"'}
            self._reply(HTTPStatus.UNAUTHORIZED, TEXT, b"who are you? user name and password, please\n", asks)
            return
        try:
            answer = route.handler(query)
        except Exception:  # a fault in a view must not look like a fault of the network
            logger.exception("cannot answer %s", path)
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, b"internal error, see the log\n")
        else:
            self._reply(*answer)

    do_HEAD = do_GET  # noqa: N815 (the name is http.server's)

    def _not_allowed(self) -> None:
        self._reply(HTTPStatus.METHOD_NOT_ALLOWED, TEXT, b"only GET and HEAD\n", {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _not_allowed  # noqa: N815

    def _reply(self, status: HTTPStatus, content_type: str, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        about = {"Content-Type": content_type, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        for name, value in (about | {"X-Content-Type-Options": "nosniff"} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return self.server_version

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every few seconds is no news, and lines would carry what clients send."""
