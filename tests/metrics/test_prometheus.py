"""Prometheus itself judges: its linter, its rule tests, and a real server that scrapes a live report."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stream_moe.report import GroupReport
from stream_moe.telemetry.access import Access, BasicAuth, Tls, hash_password
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Health
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.routes import make_routes
from tests.certificates import Authority
from tests.metrics.tools import Prometheus, promtool
from tests.unit.reports import make_report
from tests.unit.test_docker import PROMETHEUS


@contextmanager
def served(board: Board, access: Access = Access()) -> Iterator[TelemetryServer]:  # noqa: B008
    health = Health(board)
    with TelemetryServer(make_routes(board, health.live, health.ready), port=0, access=access) as server:
        yield server


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(None, id="before the first block"),
        pytest.param(make_report(), id="running"),
        pytest.param(make_report(state="recovering"), id="replaying"),
        pytest.param(make_report(experts=64, classes=40), id="largest"),
    ],
)
def test_a_live_scrape_passes_the_linter(report: Any) -> None:
    board = Board()
    if report is not None:
        board.update(report)
        board.update_group(GroupReport("running", (3,)))
    with served(board) as server, urllib.request.urlopen(server.url + "metrics", timeout=30) as response:
        scrape = response.read()
    result = promtool("check", "metrics", stdin=scrape)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "tests.yml")],
    ids=" ".join,
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    result = promtool(*arguments)
    assert result.returncode == 0, (result.stdout + result.stderr).decode()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("== 0 or absent(", "== 2 or absent("),
        ("_seconds > 60", "_seconds > 6000"),
        ("deriv(", "-1 * deriv("),
        ("lag_records) > 0", "lag_records) >= 0"),
        ("rate5m > 0.01", "rate5m > 0.0001"),
        ("age_seconds > 900", "age_seconds > 9000"),
        ("for: 2m", "for: 0m"),
        ("labels_consumed_total[5m]) == 0", "labels_consumed_total[5m]) >= 0"),
        ("and on (job, instance, partition) increase(", "and on (job, instance) increase("),
        ("consumed_total[15m]) > 0", "consumed_total[15m]) >= 0"),
        ("failures_total[15m]) > 0", "failures_total[15m]) > 2"),
        ("[30m], 3600) < 0", "[30m], 36000000) < 0"),
        ("[30m], 3600) < 0", "[30m], 3600) < 1"),
        ("(job, instance, partition) stream_moe_consumer_lag_seconds > 60", "(job) up"),
        ("watchdog_fired_total[15m]) > 0", "watchdog_fired_total[15m]) >= 0"),
        ("(job, instance, partition) (increase(stream_moe_drift", "(job, instance) (increase(stream_moe_drift"),
        ("> 0.05\n    ", "> 0.001\n    "),
        ("(job, instance, partition) (increase(stream_moe_class", "(job, instance) (increase(stream_moe_class"),
        ("unless on (job, instance, partition) stream_moe_mean_cost", ""),
        ("limit_bytes > 0.9", "limit_bytes > 0.75"),
        ("features_gone > 0", "features_gone > 4"),
        ("delta(stream_moe_unknown_names[1h]) > 0", "delta(stream_moe_unknown_names[1h]) >= 0"),
        ("delta(stream_moe_unknown_names[1h])", "delta(stream_moe_unknown_names[3h])"),
        ('{scope="mixture"}[15m])) > 5', "[15m])) > 5"),
        ("< 0.3", "< 0.1"),
        ("[1h])) > 1000", "[1h])) > 1"),
        ("> 0.1\n", "> 0.3\n"),
        ("rate15m > 0.05", "rate15m > 0.001"),
        ("for: 5m", "for: 0m"),
        ("for: 10m", "for: 0m"),
        ("for: 15m", "for: 0m"),
    ],
)
def test_the_rule_tests_notice_a_wrong_rule(tmp_path: Path, right: str, wrong: str) -> None:
    rules = (PROMETHEUS / "rules.yml").read_text()
    assert right in rules
    (tmp_path / "rules.yml").write_text(rules.replace(right, wrong))
    shutil.copy(PROMETHEUS / "tests.yml", tmp_path)
    assert promtool("test", "rules", str(tmp_path / "tests.yml")).returncode != 0


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    board = Board()
    board.update(make_report())
    board.update_group(GroupReport("running", (3,)))
    with served(board) as server:
        running = Prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{server.port}")
        try:
            yield running
        finally:
            running.close()


def test_a_real_prometheus_scrapes_the_accuracy(prometheus: Prometheus) -> None:
    samples = prometheus.wait_for("stream_moe_accuracy_ratio")
    values = {sample["metric"]["window"]: float(sample["value"][1]) for sample in samples}
    assert values == {"all": 0.875, "recent": 0.9}
    assert {sample["metric"]["job"] for sample in samples} == {"stream_moe"}
    assert prometheus.query("up")[0]["value"][1] == "1"


def test_a_real_prometheus_scrapes_over_tls_with_a_password(tmp_path: Path) -> None:
    board, authority = Board(), Authority(tmp_path)
    board.update(make_report())
    board.update_group(GroupReport("running", (3,)))
    access = Access(Tls(*authority.issue("metrics")), BasicAuth(f"scraper:{hash_password('hush')}", "users"))
    (tmp_path / "password").write_text("hush")
    scrape = {
        "scheme": "https",
        "basic_auth": {"username": "scraper", "password_file": str(tmp_path / "password")},
        "tls_config": {"ca_file": str(authority.certificate)},
    }
    with served(board, access) as server:
        running = Prometheus(tmp_path, f"127.0.0.1:{server.port}", scrape)
        try:
            running.wait_for("up == 1")
            assert running.wait_for("stream_moe_accuracy_ratio")
            (tmp_path / "password").write_text("wrong")  # read at every scrape
            running.wait_for("up == 0")
        finally:
            running.close()
