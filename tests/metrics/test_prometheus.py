"""Prometheus itself judges: its linter, its rule tests, and a real server that scrapes a live report."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_moe.telemetry.health import Health
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.metrics import EngineMetrics
from tests.unit.reports import make_report
from tests.unit.test_docker import DASHBOARDS, PROMETHEUS, dashboard_queries

PATIENCE_SECONDS = 90  # for a busy machine; on an idle one it takes three


def tool(name: str) -> str:
    """Find a program of Prometheus; without it skip, or fail where the project is checked for real."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not on PATH (Debian package prometheus)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def promtool(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [tool("promtool"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, cwd=PROMETHEUS, check=False, timeout=120)


@contextmanager
def served(metrics: EngineMetrics) -> Iterator[TelemetryServer]:
    health = Health(metrics)
    with TelemetryServer(metrics, health.live, health.ready, port=0) as server:
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
    metrics = EngineMetrics()
    if report is not None:
        metrics.update(report)
    with served(metrics) as server, urllib.request.urlopen(server.url + "metrics", timeout=30) as response:
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
        ("total[15m])) > 0\n", "total[15m])) >= 0\n"),
        ("failures_total[15m]) > 0", "failures_total[15m]) > 2"),
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.loads(response.read())


class Prometheus:
    """A real server that scrapes `target` with the demo's own configuration, only faster."""

    def __init__(self, directory: Path, target: str) -> None:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        }
        config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (directory / "log").open("wb+")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            tool("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def query(self, promql: str) -> list[dict[str, Any]]:
        try:
            answer = get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}")
        except urllib.error.HTTPError as error:
            if error.code == 400:  # it cannot parse the query
                raise AssertionError(f"{promql}: {error.read().decode()}") from None
            return []
        except OSError:  # not up yet
            return []
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def wait_for(self, promql: str) -> list[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            result = self.query(promql)
            if result:
                return result
            time.sleep(0.2)
        self._log.seek(0)
        log = self._log.read().decode()[-4000:]
        raise AssertionError(f"no answer to {promql}; Prometheus says:\n{log}")

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    metrics = EngineMetrics()
    metrics.update(make_report())
    with served(metrics) as server:
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


@pytest.mark.parametrize("query", dashboard_queries(DASHBOARDS))
def test_every_query_of_the_dashboards_finds_series(prometheus: Prometheus, query: str) -> None:
    promql = query.replace("$instance", ".+").replace("$__rate_interval", "1m")
    # A mark of a drift is drawn only where one happens; here the counter does not move.
    prometheus.wait_for(promql.removesuffix(" > 0"))
