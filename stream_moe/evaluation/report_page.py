"""A replay as one self-contained HTML page: scores, accuracy over time, who did what."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import Any

from stream_moe.telemetry.page import STYLE, html_table

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 260, 48, 28
_SERIES = (("accuracy", "since the start", "4 3"), ("window_accuracy", "recent", "none"))
_SCORES = ("accuracy", "window_accuracy", "kappa", "kappa_majority", "kappa_temporal", "log_loss")


def render(result: dict[str, Any], rows: list[dict[str, float]]) -> str:
    """Render a result (as in the JSON) and its rows over time.

    Examples
    --------
    >>> scores = dict.fromkeys(_SCORES, 0.5)
    >>> result = scores | {"model": "m", "stream": "s", "seed": 1, "events": 2, "experts": [], "state_digest": "0"}
    >>> "m on s" in render(result, [scores | {"events": 1, "drifts": 0}, scores | {"events": 2, "drifts": 1}])
    True
    """
    title = escape(f"{result['model']} on {result['stream']}, seed {result['seed']}")
    scores = [[name.replace("_", " "), f"{result[name]:.4f}"] for name in _SCORES]
    scores += [["events", f"{result['events']:,}"], ["state digest", result["state_digest"][:16]]]
    experts = [
        [str(e), x["kind"], *(f"{x[n]:,}" for n in ("routed", "trained", "nodes", "drifts")), f"{x['accuracy']:.2%}"]
        for e, x in enumerate(result["experts"])
    ]
    columns = ["expert", "kind", "routed", "trained", "nodes", "drifts", "accuracy"]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}svg {{ width: 100%; height: auto }}\n</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n{_chart(rows)}{html_table('Prequential scores', ['', 'value'], scores)}"
        f"{html_table('Experts', columns, experts)}</body>\n</html>\n"
    )


def _chart(rows: list[dict[str, float]]) -> str:
    """Accuracy over events as inline SVG; a vertical line where the mixture drifted."""
    if len(rows) < 2:
        return "<p>Too few events for a picture: it needs two rows of 5,000.</p>\n"
    values = [row[name] for row in rows for name, _, _ in _SERIES]
    low, high, last = min(values), max(values), rows[-1]["events"]
    low, high = (low, high) if high > low else (low - 0.01, high + 0.01)

    def x(events: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 8) * events / last

    def y(value: float) -> float:
        return 8 + (_HEIGHT - 8 - _BOTTOM) * (high - value) / (high - low)

    marks = [
        f'<line x1="{x(now["events"]):.1f}" x2="{x(now["events"]):.1f}" y1="8" y2="{_HEIGHT - _BOTTOM}" '
        'stroke="#d55" stroke-opacity=".5"/>'
        for before, now in pairwise(rows)
        if now["drifts"] > before["drifts"]
    ]
    lines = [
        f'<polyline fill="none" stroke="currentColor" stroke-dasharray="{dash}" points="'
        + " ".join(f"{x(row['events']):.1f},{y(row[name]):.1f}" for row in rows)
        + '"/>'
        for name, _, dash in _SERIES
    ]
    words = [
        f'<text x="{_LEFT - 4}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>' for value in (low, high)
    ] + [f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 8}" text-anchor="end">{last:,.0f} events</text>']
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="accuracy over events" '
        f'font-size="11" fill="currentColor">{"".join(marks + lines + words)}</svg>'
        "<figcaption>Accuracy: solid over about the last 1,000 events, dashed since the start; red where the mixture "
        "drifted.</figcaption></figure>\n"
    )
