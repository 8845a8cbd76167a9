"""The daemon's page in a real headless Chromium: it shows the numbers of /metrics, without script, on a phone too."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_moe.telemetry.health import Health
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.metrics import EngineMetrics
from tests.unit.reports import make_report

SHOWN: dict[str, tuple[str, dict[str, str], int]] = {  # on the page; as scraped; percent of a share, or the number
    "events read": ("events_consumed_total", {}, 1),
    "predictions committed": ("predictions_committed_total", {}, 1),
    "waiting for a label": ("pending_events", {}, 1),
    "accuracy, all": ("accuracy_ratio", {"window": "all"}, 100),
    "accuracy, recent": ("accuracy_ratio", {"window": "recent"}, 100),
    "kappa": ("kappa_ratio", {}, 1),
    "log loss": ("log_loss", {}, 1),
    "drifts, mixture": ("drift_detections_total", {"scope": "mixture"}, 1),
}


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_shows_what_is_scraped(browser: Any, width: int) -> None:
    metrics = EngineMetrics()
    metrics.update(make_report())
    health = Health(metrics)
    context = browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=False)
    page, asked = context.new_page(), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    with TelemetryServer(metrics, health.live, health.ready, port=0) as server:
        page.goto(server.url)
        rows = dict(row.split("\t")[:2] for row in page.locator("tbody tr").all_inner_texts())
        with urllib.request.urlopen(server.url + "metrics", timeout=30) as response:
            scrape = response.read().decode()
        assert asked == [server.url], "the page asks for something else"
    samples = [sample for family in text_string_to_metric_families(scrape) for sample in family.samples]
    for label, (name, labels, scale) in SHOWN.items():
        found = [s.value for s in samples if s.name == f"stream_moe_{name}" and labels.items() <= s.labels.items()]
        value = float(rows[label].rstrip("%").replace(",", ""))
        assert [scale * known for known in found] == [pytest.approx(value, abs=0.05 if scale == 100 else 5e-4)], label
    assert len(rows) > len(SHOWN)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
