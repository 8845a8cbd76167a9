"""TLS and basic authentication of the HTTP server."""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_moe.errors import ConfigError
from stream_moe.report import GroupReport
from stream_moe.telemetry.access import Access, BasicAuth, Tls, hash_password, load_access
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Health
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.routes import make_routes
from tests.certificates import Authority
from tests.unit.reports import make_report

OPEN_PATHS = ("/healthz", "/readyz")  # without a password
PASSWORD = "canary-4411: with a colon, and ü"


def header(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def users() -> str:
    return f"# who may scrape\n\nscraper:{hash_password(PASSWORD, 4)}\nother:{hash_password('other', 4)}\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def board() -> Board:
    board = Board()
    board.update(make_report())
    board.update_group(GroupReport("running", (3,)))
    return board


def serve(board: Board, access: Access, host: str = "127.0.0.1", deadline: float = 30.0) -> TelemetryServer:
    health = Health(board)
    return TelemetryServer(make_routes(board, health.live, health.ready), host, 0, access, deadline=deadline)


@pytest.fixture
def secured(board: Board, authority: Authority, users: str) -> Iterator[TelemetryServer]:
    with serve(board, Access(Tls(*authority.issue("metrics")), BasicAuth(users, "users"))) as server:
        yield server


def ask(url: str, authorization: str | None = None, trusted: Authority | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    context = ssl.create_default_context(cafile=str(trusted.certificate)) if trusted else None
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["WWW-Authenticate"] + error.read().decode()


def test_the_right_password_over_tls(secured: TelemetryServer, authority: Authority) -> None:
    assert secured.url.startswith("https://")
    for _ in range(2):  # the second time from memory
        status, body = ask(f"{secured.url}metrics", header("scraper", PASSWORD), authority)
        assert (status, "stream_moe_accuracy_ratio" in body) == (200, True)
    assert ask(secured.url, header("other", "other"), authority)[0] == 200


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "",
        header("scraper", "wrong"),
        header("nobody", PASSWORD),
        header("scraper", ""),
        "Basic not-base64!",
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Bearer " + header("scraper", PASSWORD).removeprefix("Basic "),
        "Basic " + "A" * 5000,
    ],
)
def test_anything_else_is_refused(secured: TelemetryServer, authority: Authority, wrong: str | None) -> None:
    for path in ("metrics", "", "metrics?/healthz"):
        status, body = ask(f"{secured.url}{path}", wrong, authority)
        assert status == 401, path
        assert body.startswith('Basic realm="stream_moe"')
        assert "stream_moe_" not in body
    for path in OPEN_PATHS:
        assert ask(f"{secured.url}{path[1:]}", wrong, authority)[0] == 200


def test_a_client_that_does_not_know_the_authority_breaks_off(secured: TelemetryServer) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(f"{secured.url}metrics", trusted=None)
    with pytest.raises((urllib.error.URLError, ConnectionError)):  # plain HTTP on a port of TLS
        ask(secured.url.replace("https", "http") + "metrics")


def test_a_handshake_that_never_comes_keeps_nobody_waiting(board: Board, authority: Authority) -> None:
    with serve(board, Access(Tls(*authority.issue("metrics"))), deadline=1.0) as server:
        slow = [socket.create_connection((server.host, server.port), timeout=30) for _ in range(40)]
        assert ask(f"{server.url}metrics", trusted=authority)[0] == 200
        assert [client.recv(1) for client in slow] == [b""] * 40  # cut at the deadline, or for the newest
        for client in slow:
            client.close()


def test_many_scrapes_hash_once(users: str, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = BasicAuth(users, "users")
    right = header("scraper", PASSWORD)
    assert auth.permits(right)

    def never(*_: object) -> bool:
        raise AssertionError("hashed again")

    monkeypatch.setattr("bcrypt.checkpw", never)
    assert all(auth.permits(right) for _ in range(1000))


def test_wrong_passwords_are_checked_one_at_a_time(users: str, monkeypatch: pytest.MonkeyPatch) -> None:
    auth, at_once, most = BasicAuth(users, "users"), 0, 0
    pauses: list[float] = []

    def slow(*_: object) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.001)
        at_once -= 1
        return False

    monkeypatch.setattr("bcrypt.checkpw", slow)
    monkeypatch.setattr("stream_moe.telemetry.access._pause", pauses.append)
    threads = [threading.Thread(target=auth.permits, args=(header("scraper", str(i)),)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert len(pauses) == 20
    assert min(pauses) > 0.004


def test_a_renewed_certificate_counts_without_a_restart(
    board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    former, later = Authority(tmp_path, "former"), Authority(tmp_path, "later")
    certificate, key = former.issue("metrics")
    with serve(board, Access(Tls(certificate, key))) as server:
        assert ask(f"{server.url}metrics", trusted=former)[0] == 200
        right = certificate.read_text()
        certificate.write_text("half written")
        assert ask(f"{server.url}metrics", trusted=former)[0] == 200
        assert "the former stays" in caplog.text
        certificate.write_text(right)
        later.issue("metrics")
        assert ask(f"{server.url}metrics", trusted=later)[0] == 200
        with pytest.raises(urllib.error.URLError):
            ask(f"{server.url}metrics", trusted=former)


@pytest.mark.parametrize(
    "line",
    [
        "scraper",
        "scraper:",
        "scraper:canary",
        "scraper:$apr1$abcdefgh$canaryoooooooooooooo1",
        "scraper:{SHA}canary7LSZkE7y2uGZQ0Ucanary=",
        "scraper:$2y$31$" + "a" * 53,
        "scraper:$2y$05$" + "a" * 52,
        "scraper:scrypt$60$8$1$AAAA$AAAA",
        "scraper:scrypt$14$99999999$1$MDEyMzQ1Njc4OWFiY2RlZg==$AAAA",
        "",
        "# none",
    ],
)
def test_files_of_users_that_do_not_fit(line: str, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(line)
    with pytest.raises(ConfigError, match=r"users.*stream_moe\.telemetry\.access USER") as caught:
        load_access(None, None, tmp_path / "users", {})
    assert "canary" not in str(caught.value)


# Made by `htpasswd -nbB htpasswd hush` of Apache 2.4, and by this program before it wrote bcrypt.
APACHE = "htpasswd:$2y$05$BX45qFmzOx.lKeijUOXvz.um6atw/cGjwBX4SyUnNH8DYHKZTEf56"
BEFORE = "before:scrypt$14$8$1$MDEyMzQ1Njc4OWFiY2RlZg==$F4BZPkDblfh79k/CtavNVS+3szr+1PnkA//KWAMYj9g="


def test_files_of_htpasswd_and_of_earlier_versions_are_read() -> None:
    auth = BasicAuth(f"{APACHE}\n{BEFORE}\n", "users")
    for user in ("htpasswd", "before"):
        assert auth.permits(header(user, "hush"))
        assert not auth.permits(header(user, "Hush"))
    assert not auth.permits(header("htpasswd", "hush\0"))


def test_a_password_longer_than_bcrypt_reads(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="more than 72 bytes"):
        hash_password("a" * 73)
    assert BasicAuth(f"scraper:{hash_password('a' * 72, 4)}", "users").permits(header("scraper", "a" * 72))
    assert not BasicAuth(f"scraper:{hash_password('a' * 72, 4)}", "users").permits(header("scraper", "a" * 71))


def test_options_that_do_not_fit(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("one", passphrase="canary")
    with pytest.raises(ConfigError, match="must not be encrypted"):
        load_access(certificate, key, None, {})
    with pytest.raises(ConfigError, match=r"--metrics-key .* without --metrics-cert"):
        load_access(None, key, None, {})
    with pytest.raises(ConfigError, match="nowhere: No such file"):
        load_access(None, None, tmp_path / "nowhere", {})
    with pytest.raises(ConfigError, match="no such file"):
        load_access(tmp_path / "nowhere", None, None, {})
    assert load_access(None, None, None, {}) == Access()


def test_users_from_the_environment(users: str) -> None:
    access = load_access(None, None, None, {"STREAM_MOE_METRICS_AUTH": users})
    assert access.auth is not None
    assert access.auth.permits(header("scraper", PASSWORD))
    assert "$2b$" not in f"{access!r} {access.auth!r} {vars(access.auth)}"


@pytest.mark.parametrize(
    ("host", "tls", "auth", "said"),
    [
        ("127.0.0.1", False, False, None),
        ("0.0.0.0", False, False, "anybody who reaches this address"),
        ("0.0.0.0", True, False, "anybody who reaches this address"),
        ("0.0.0.0", False, True, "in the clear"),
        ("0.0.0.0", True, True, None),
    ],
)
def test_what_is_open_to_others_is_said(
    board: Board, authority: Authority, users: str, caplog: pytest.LogCaptureFixture,
    host: str, tls: bool, auth: bool, said: str | None,
) -> None:  # fmt: skip
    access = Access(Tls(*authority.issue("metrics")) if tls else None, BasicAuth(users, "users") if auth else None)
    with caplog.at_level(logging.WARNING), serve(board, access, host):
        pass
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


def test_the_line_for_the_file_is_made_by_a_command() -> None:
    command = [sys.executable, "-m", "stream_moe.telemetry.access", "scraper"]
    done = subprocess.run(command, input=f"{PASSWORD}\n", capture_output=True, text=True, check=True)
    assert "canary" not in done.stdout
    assert BasicAuth(done.stdout, "stdout").permits(header("scraper", PASSWORD))
    assert subprocess.run([*command, "canary"], capture_output=True, text=True, check=False).returncode == 1
