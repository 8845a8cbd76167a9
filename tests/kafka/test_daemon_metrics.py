"""A real Prometheus watches the daemon work on a real broker."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka import KafkaSettings
from tests.kafka.test_daemon import finish, run_arguments, stream_moe
from tests.metrics.tools import Prometheus, free_port, promtool

pytestmark = pytest.mark.kafka


def test_prometheus_scrapes_the_daemon(settings: KafkaSettings, tmp_path: Path) -> None:
    where = ["--bootstrap", settings.bootstrap, "--topic", settings.topic]
    finish(stream_moe("produce", "electricity", "--events", "20000", *where))
    port, result = free_port(), tmp_path / "run.json"
    arguments = run_arguments(settings, tmp_path / "state", "--json", str(result))
    arguments[arguments.index("--metrics-port") + 1] = str(port)
    daemon = stream_moe(*arguments)
    (tmp_path / "prometheus").mkdir()
    prometheus = Prometheus(tmp_path / "prometheus", f"127.0.0.1:{port}")
    try:
        prometheus.wait_for("stream_moe_predictions_committed_total == 20000")
        prometheus.wait_for("stream_moe_consumer_lag_records == 0")
        accuracy = prometheus.wait_for('stream_moe_accuracy_ratio{window="all"}')[0]
        routed = prometheus.wait_for("sum(stream_moe_expert_routed_total)")[0]
        for name in ("drift_detections_total", "expert_class_affinity_ratio", "router_load_entropy_ratio"):
            prometheus.wait_for(f"stream_moe_{name}")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lint = promtool("check", "metrics", stdin=answer.read())
        assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")
        for path in ("healthz", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                assert answer.status == 200
    finally:
        prometheus.close()
        daemon.terminate()
        finish(daemon)
    final: dict[str, Any] = json.loads(result.read_text())
    assert float(accuracy["value"][1]) == final["accuracy"]
    assert float(routed["value"][1]) == sum(expert["routed"] for expert in final["experts"]) == 20_000
