"""A real Prometheus watches the daemon work on a real broker, and finds an answer to every query there is."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka import KafkaSettings
from tests.metrics.queries import NOT_PROVOKED, PROVOKED, all_queries
from tests.metrics.watched import watched

pytestmark = pytest.mark.kafka


LABELS = "last_over_time(stream_moe_class_labels_total[1h])"
ACCURACY = f"""sum(last_over_time(stream_moe_accuracy_ratio{{window="all"}}[1h])
* on (partition) sum by (partition) ({LABELS})) / sum({LABELS})"""


def test_every_query_finds_what_the_daemon_says(settings: KafkaSettings, tmp_path: Path) -> None:
    with watched(settings, tmp_path) as run:
        seen = run.well()
        assert run.lint() == ""
        for path in ("healthz", "readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{run.port}/{path}", timeout=10) as answer:
                assert answer.status == 200
        run.ill(seen)
        accuracy = run.prometheus.query(ACCURACY)
        routed = run.prometheus.query("sum(last_over_time(stream_moe_expert_routed_total[1h]))")
    assert [one.wrong for one in seen if one.wrong] == []
    final: dict[str, Any] = json.loads(run.result.read_text())
    assert float(accuracy[0]["value"][1]) == pytest.approx(final["accuracy"], abs=1e-12)
    assert float(routed[0]["value"][1]) == sum(expert["routed"] for expert in final["experts"]) == run.labelled


def test_every_exception_is_a_query() -> None:
    assert PROVOKED.keys() | NOT_PROVOKED.keys() <= {query.name for query in all_queries()}
    assert not PROVOKED.keys() & NOT_PROVOKED.keys()


def test_the_table_has_every_query() -> None:
    table = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()
    assert [query.name for query in all_queries() if f"| `{query.name}` |" not in table] == []
