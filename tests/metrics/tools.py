"""Prometheus and its tools, run for real."""

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
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_docker import PROMETHEUS

PATIENCE_SECONDS = 90  # for a busy machine; on an idle one it takes three
COMPILE_SECONDS = 300  # the first time a daemon compiles for a minute


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.loads(response.read())


class Prometheus:
    """A real server that scrapes `target` with the demo's own configuration, only faster; `scrape` says how."""

    def __init__(self, directory: Path, target: str, scrape: dict[str, Any] | None = None) -> None:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        }
        config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        config["scrape_configs"][0] |= scrape or {}
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

    def wait_for(self, promql: str, seconds: float = PATIENCE_SECONDS) -> list[dict[str, Any]]:
        deadline = time.monotonic() + seconds
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
