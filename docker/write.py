"""Write what is made from the metric table and the alerts: `python docker/write.py` (or `make written`).

That is docs/metrics.md's table, prometheus/rules.yml and grafana/dashboards; a test compares each.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from stream_moe.telemetry.table import METRICS

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "metrics.md"


def with_table(page: str) -> str:
    """Put the metrics into a page in place of the rows that it has.

    Examples
    --------
    >>> with_table("| metric |\\n| --- |\\n| `old` | gauge |\\n\\nmore").count("stream_moe_") == len(METRICS)
    True
    """
    rows = [f"| `{spec.name}` | {spec.kind} | {', '.join(spec.labels) or '-'} | {spec.help} |\n" for spec in METRICS]
    return re.sub(r"(?:^\| `.*\|\n)+", lambda _: "".join(rows), page, count=1, flags=re.M)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
    for script in ("prometheus/rules.py", "grafana/dashboards.py"):
        subprocess.run([sys.executable, HERE / script], check=True)
