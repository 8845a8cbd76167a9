"""The HTTP server: what it answers, and that no client can do it harm."""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from stream_moe.errors import ConfigError
from stream_moe.report import GroupReport
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Health, Verdict
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.routes import make_routes
from tests.unit.reports import make_report

PATHS = ("/", "/metrics", "/healthz", "/readyz")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def serve(
    board: Board,
    live: Callable[[], Verdict] | None = None,
    ready: Callable[[], Verdict] | None = None,
    port: int = 0,
    **options: Any,
) -> TelemetryServer:
    health = Health(board)
    routes = make_routes(board, live or health.live, ready or health.ready, cache_seconds=0)
    return TelemetryServer(routes, port=port, **options)


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(board: Board, clock: Clock) -> Iterator[TelemetryServer]:
    health = Health(board, stalled_after=120, max_lag_seconds=60, clock=clock)
    with serve(board, health.live, health.ready) as running:
        yield running


def ask(server: TelemetryServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=30)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()


def test_metrics_are_served_as_prometheus_text(server: TelemetryServer, board: Board) -> None:
    board.update(make_report())
    status, headers, body = ask(server, "/metrics?ignored=1")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert '\nstream_moe_accuracy_ratio{partition="3",window="all"} 0.875\n' in body


def test_health_follows_the_heartbeat(server: TelemetryServer, clock: Clock) -> None:
    assert ask(server, "/healthz")[::2] == (200, "the loop turns\n")
    clock.now += 121
    assert ask(server, "/healthz")[::2] == (503, "the loop stands still for 121 s (limit 120 s)\n")


def test_readiness_follows_state_lag_and_heartbeat(server: TelemetryServer, board: Board, clock: Clock) -> None:
    assert ask(server, "/readyz")[::2] == (503, "no report yet\n")
    board.update_group(GroupReport("recovering", (3,)))
    assert ask(server, "/readyz")[::2] == (503, "recovering, not running\n")
    board.update_group(GroupReport("running", (2, 3)))
    board.update(make_report(lag_seconds=61.0, lag_records=5))
    assert ask(server, "/readyz")[::2] == (503, "partition 2: no report yet\n")
    board.update(make_report(partition=2))
    assert ask(server, "/readyz")[::2] == (
        503,
        "partition 3: 61.0 s and 5 records behind (limit 60 s)\n",
    )
    board.update(make_report())
    assert ask(server, "/readyz")[::2] == (200, "running\n")
    clock.now += 121
    assert ask(server, "/readyz")[0] == 503


def test_a_beat_revives(board: Board, clock: Clock) -> None:
    health = Health(board, clock=clock)
    clock.now += 1_000
    assert not health.live().ok
    health.beat()
    assert health.live().ok


def test_page_shows_the_headline_numbers_and_loads_nothing(server: TelemetryServer, board: Board) -> None:
    board.update(make_report())
    status, headers, body = ask(server, "/?partition=3")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for name in ("script", "style"):
        content = re.search(f"<{name}>(.*?)</{name}>", body, re.S)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in policy
    assert "87.5%" in body
    assert not re.search(r"https?:", body)
    assert body.count("<table>") == body.count("</table>") == 5
    assert ask(server, "/?partition=7")[::2] == (404, "partition: not one of this process; it has 3\n")


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(server: TelemetryServer, path: str) -> None:
    got, asked = ask(server, path), ask(server, path, "HEAD")
    assert asked[0] == got[0]
    assert asked[1]["Content-Length"] == got[1]["Content-Length"] == str(len(got[2].encode()))
    assert asked[2] == ""


def test_unknown_paths_and_methods(server: TelemetryServer) -> None:
    assert ask(server, "/nowhere")[::2] == (404, "not here; try /metrics /healthz /readyz /\n")
    assert ask(server, "/../../secret")[0] == 404
    status, headers, _ = ask(server, "/metrics", "POST")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    status, _, body = ask(server, "/", "<script>")
    assert status in (400, 501)
    assert "\n" in body


def test_a_fault_in_a_view_is_a_500_and_logged(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Verdict:
        raise RuntimeError("boom")

    with serve(board, broken, broken) as running:
        assert ask(running, "/healthz")[::2] == (500, "internal error, see the log\n")
        assert ask(running, "/metrics")[0] == 200
    assert "cannot answer /healthz" in caplog.text


def test_a_reason_is_one_line(board: Board) -> None:
    def live() -> Verdict:
        return Verdict(False, "two\nlines")

    with serve(board, live, live) as running:
        assert ask(running, "/healthz")[::2] == (503, "two lines\n")


def test_a_port_in_use_names_the_port_and_the_option(server: TelemetryServer) -> None:
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{server.port}.*in use.*--metrics-port"):
        serve(Board(), port=server.port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65_536), ("not an address", 0), ("192.0.2.1", 0)])
def test_an_address_that_cannot_be_had(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match="--metrics-host"):
        serve(Board(), host=host, port=port)


def test_a_slow_client_is_cut_at_the_deadline(board: Board) -> None:
    # Without the deadline the read below would wait for its own time-out and fail.
    with serve(board, deadline=0.2) as running, dial(running) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert slow.recv(1) == b""


def test_the_oldest_connection_makes_room(board: Board) -> None:
    with serve(board, max_connections=4, deadline=600) as running:
        idle = [dial(running) for _ in range(20)]
        assert ask(running, "/healthz")[0] == 200
        assert [client.recv(1) for client in idle[:17]] == [b""] * 17
        for client in idle[17:]:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)
        for client in idle:
            client.close()


def test_many_scrapers_at_once_all_get_an_answer(board: Board) -> None:
    board.update(make_report())
    statuses: list[int] = []
    with serve(board, max_connections=64) as running:
        threads = [threading.Thread(target=lambda: statuses.append(ask(running, "/metrics")[0])) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [200] * 30


def test_close_frees_the_port_and_cuts_what_is_open(board: Board) -> None:
    running = serve(board, deadline=600)
    with dial(running) as idle:
        assert ask(running, "/healthz")[0] == 200  # the idle connection is accepted by now
        running.close()
        assert idle.recv(1) == b""
    running.close()
    assert "telemetry-http" not in {thread.name for thread in threading.enumerate()}
    serve(board, port=running.port).close()


def test_nothing_is_written_to_stderr(
    board: Board, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serve(board) as running:
        ask(running, "/metrics")
        ask(running, "/nowhere")
        with dial(running) as rude:
            rude.sendall(b"\x16\x03\x01 not http at all\r\n\r\n")
            rude.recv(4_096)
        with dial(running) as gone:
            gone.sendall(b"GET /metrics HTTP/1.1\r\n")
        ask(running, "/healthz")
    assert capfd.readouterr().err == ""
    assert caplog.text == ""


def test_ipv6_where_there_is_any(board: Board) -> None:
    try:
        running = serve(board, host="::1", port=0)
    except ConfigError as error:
        pytest.skip(str(error))
    with running:
        assert running.url == f"http://[::1]:{running.port}/"
        assert ask(running, "/healthz")[0] == 200


def dial(server: TelemetryServer) -> socket.socket:
    return socket.create_connection((server.host, server.port), timeout=30)


def test_slow_and_frequent_scrapes_do_not_stop_the_loop(board: Board) -> None:
    """50 scrapes a second beside clients that never finish a request: the loop and the scraper both go on."""
    turns, statuses, done = 0, list[int](), threading.Event()

    def scrape() -> None:
        while not done.wait(1 / 50):
            statuses.append(ask(running, "/metrics")[0])

    with serve(board, max_connections=64) as running:
        slow = [dial(running) for _ in range(20)]
        for client in slow:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        scraper = threading.Thread(target=scrape)
        scraper.start()
        try:
            while len(statuses) < 25 and scraper.is_alive():
                board.update(make_report())  # as the loop does after each block
                turns += 1
                time.sleep(0.001)
        finally:
            done.set()
            scraper.join(30)
            for client in slow:
                client.close()
    assert set(statuses) == {200}
    assert turns >= 25  # it would be 1 if an update had to wait for a scrape or for a slow client
