"""One client that asks for all there is: probes, scrapes and other people's passwords go on beside it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_moe.report import GroupReport
from stream_moe.telemetry.access import Access, BasicAuth, Tls, hash_password
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.budgets import Budget
from stream_moe.telemetry.health import Health
from stream_moe.telemetry.http import ANSWERS, CONNECTIONS, TelemetryServer
from stream_moe.telemetry.routes import make_routes
from tests.certificates import Authority
from tests.unit.reports import make_report

ENEMY = "127.0.0.2"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def serve(access: Access = Access(), **options: object) -> TelemetryServer:  # noqa: B008 (immutable)
    board = Board()
    board.update(make_report())
    board.update_group(GroupReport("running", (3,)))
    health = Health(board)
    routes = make_routes(board, health.live, health.ready)
    return TelemetryServer(routes, "127.0.0.1", 0, access, **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def storm(client: Callable[[], None], rate: float) -> Iterator[list[int]]:
    """So many a second are begun, whatever becomes of them; how many were is the first number."""
    done, count = threading.Event(), [0]

    def one() -> None:
        with contextlib.suppress(OSError):
            client()

    def run() -> None:
        while not done.wait(1 / rate):
            count[0] += 1
            threading.Thread(target=one, daemon=True).start()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield count
    finally:
        done.set()
        thread.join()


def hello(server: TelemetryServer, source: str, text: bytes = b"", tls: ssl.SSLContext | None = None) -> None:
    """Connect, maybe shake hands, say something, and wait for what comes."""
    with socket.create_connection((server.host, server.port), timeout=5, source_address=(source, 0)) as plain:
        client = tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain
        client.sendall(text)
        client.recv(1 << 16)


def ask(
    server: TelemetryServer,
    path: str,
    tls: ssl.SSLContext | None = None,
    *,
    headers: dict[str, str] | None = None,
    method: str = "GET",
) -> int:
    """Return the status of an answer, 0 where none comes."""
    made = (
        http.client.HTTPSConnection(server.host, server.port, timeout=4, context=tls)
        if tls
        else http.client.HTTPConnection(server.host, server.port, timeout=4)
    )
    with contextlib.closing(made) as connection:
        try:
            connection.request(method, path, headers=headers or {})
            return connection.getresponse().status
        except OSError:
            return 0


def again(count: int, ask_once: Callable[[], int]) -> list[int]:
    """Ask five times a second."""
    found = []
    for _ in range(count):
        found.append(ask_once())
        time.sleep(0.2)
    return found


@pytest.mark.parametrize("source", [ENEMY, "127.0.0.1"], ids=["another address", "the same address"])
@pytest.mark.parametrize("text", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"], ids=["handshakes", "pages"])
def test_probes_and_scrapes_go_on_in_a_storm_of_tls(authority: Authority, source: str, text: bytes) -> None:
    trusted = ssl.create_default_context(cafile=str(authority.certificate))
    with serve(Access(Tls(*authority.issue("metrics")))) as server:
        with storm(lambda: hello(server, source, text, trusted), 45) as count:
            time.sleep(2)
            probes = again(12, lambda: ask(server, "/healthz", trusted))
            scrapes = again(15, lambda: ask(server, "/metrics", trusted))
        assert count[0] > 200
    assert probes == [200] * 12
    if source == ENEMY or not text:  # of the same address, pages and scrapes cannot be told apart
        assert scrapes == [200] * 15


def test_a_flood_of_one_address_leaves_the_others_their_answers() -> None:
    with serve() as server, storm(lambda: hello(server, ENEMY, b"GET /metrics HTTP/1.0\r\n\r\n"), 300):
        time.sleep(1)
        found = again(5, lambda: ask(server, "/healthz")) + again(5, lambda: ask(server, "/metrics"))
    assert found == [200] * 10


def test_who_asks_too_often_is_told() -> None:
    with serve() as server:
        statuses = [ask(server, "/metrics") for _ in range(60)]
    assert set(statuses) == {200, 429}
    assert statuses[:30] == [200] * 30


def test_guesses_do_not_keep_probes_or_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong passwords wait for one another, and a thread that waits is one less for the probes."""
    auth = BasicAuth(f"scraper:{hash_password('hush', 10)}", "users")
    guess = b"GET /metrics HTTP/1.0\r\nAuthorization: Basic " + base64.b64encode(b"scraper:no") + b"\r\n\r\n"
    right = {"Authorization": "Basic " + base64.b64encode(b"scraper:hush").decode()}
    with serve(Access(auth=auth), max_connections=16) as server:
        assert ask(server, "/metrics", headers=right) == 200
        with storm(lambda: hello(server, ENEMY, guess), 45):
            time.sleep(2)
            found = again(6, lambda: ask(server, "/healthz"))
            found += again(6, lambda: ask(server, "/metrics", headers=right))
    assert found == [200] * 12


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9108", "127.0.0.1.evil.example", "localhost.evil", ""]
)
def test_a_page_whose_name_leads_here_reads_nothing(host: str) -> None:
    with serve() as server:
        assert ask(server, "/metrics", headers={"Host": host}) == 421
        assert ask(server, "/", headers={"Host": host}) == 421
        assert ask(server, "/healthz", headers={"Host": host}) == 200  # an orchestrator may send any


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1:9108", "[::1]:9", "10.1.2.3", "mine.example:80", "mine.example."],
)
def test_its_own_names_and_addresses_are_answered(host: str) -> None:
    with serve(names=["mine.example"]) as server:
        assert ask(server, "/metrics", headers={"Host": host}) == 200
        assert ask(server, "/metrics", headers={"Host": socket.gethostname()}) == 200


def test_behind_a_password_any_name_will_do(tmp_path: Path) -> None:
    auth = BasicAuth(f"scraper:{hash_password('hush', 4)}", "users")
    with serve(Access(auth=auth)) as server:
        assert ask(server, "/metrics", headers={"Host": "evil.example"}) == 401


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("rate", [ANSWERS, CONNECTIONS])
def test_a_budget_is_shared(rate: float) -> None:
    clock = Clock()
    budget = Budget(rate, rate, clock)
    given = dict.fromkeys(("a", "b", "seldom"), 0)
    for turn in range(3000):  # 30 seconds; two ask a hundred times a second, one once
        clock.now += 0.01
        for name in ("a", "b") if turn % 100 else ("a", "b", "seldom"):
            given[name] += budget.take(name)
    assert given["seldom"] == 30
    assert given["a"] <= (2 * 30 / 3 + 1) * rate
    assert sum(given.values()) <= (31 + 31 / 3) * rate


def test_few_addresses_are_remembered() -> None:
    budget = Budget(10, 10, lambda: 0.0)
    for number in range(5000):
        budget.take(f"10.0.{number >> 8}.{number & 255}")
    assert len(budget._each) == 1024
