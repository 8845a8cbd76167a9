"""Write rules.yml from the alerts' one list: `python docker/prometheus/rules.py [FILE]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from stream_moe.telemetry.alerts import ALERTS, RECORDED, Alert

HERE = Path(__file__).resolve().parent
HEADER = """\
# Written by rules.py from stream_moe/telemetry/alerts.toml, where the limits stand. Each alert has a case in
# tests.yml where it fires and one where it stays silent:
#   promtool test rules tests.yml
groups:
"""


def lines_of(alert: Alert) -> Iterator[str]:
    """Lay one alert out."""
    yield f"      - alert: {alert.name}"
    if alert.why:
        yield f"        # {alert.why}"
    yield from condition(alert.promql)
    if alert.wait:
        yield f"        for: {alert.wait}"
    yield f"        labels: {{severity: {alert.severity}}}"
    yield "        annotations:"
    yield f"          summary: {json.dumps(alert.summary)}"
    yield f"          runbook: {json.dumps(alert.runbook)}"
    yield f"          runbook_url: docs/runbooks.md#{alert.name.lower()}"


def condition(promql: str) -> Iterator[str]:
    """Fold a condition: YAML joins its lines by spaces."""
    yield "        expr: >-"
    yield from (f"          {line}" for line in promql.splitlines())


def rules() -> str:
    """Make the whole file."""
    lines = ["  - name: stream_moe_recorded", "    rules:"]
    for name, promql in RECORDED.items():
        lines += [f"      - record: {name}", *condition(promql)]
    for group, alerts in groupby(ALERTS, lambda alert: alert.group):
        lines += ["", f"  - name: stream_moe_{group}", "    rules:"]
        lines += [line for alert in alerts for line in lines_of(alert)]
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "rules.yml").write_text(rules())
