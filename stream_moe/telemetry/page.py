"""The headline numbers as one plain HTML page: no script, no address outside the page itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from stream_moe.report import PartitionReport

STYLE = """:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin-bottom: 2rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .25rem 0 }
th, td { text-align: right; padding: .2rem .5rem; border-bottom: 1px solid #8884 }
th:first-child { text-align: left; font-weight: 400 }
thead th { font-weight: 600 }
.wide { overflow-x: auto }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .6rem } td, th { font-size: .85rem } }
"""
_HEAD = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>stream_moe</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>stream_moe</h1>
"""
_FOOT = """<p><a href="/metrics">metrics</a> · <a href="/healthz">live?</a> · <a href="/readyz">ready?</a></p>
</body>
</html>
"""


def render_page(partitions: Sequence[PartitionReport]) -> str:
    """Page of the first of the latest reports, with a row for each partition where there are several.

    It asks the browser to load it again every 5 seconds.

    Examples
    --------
    >>> "Nothing to show yet" in render_page([])
    True
    """
    if not partitions:
        return f"{_HEAD}<p>Nothing to show yet: the first block is not finished.</p>\n{_FOOT}"
    report = partitions[0]
    quality, learner = report.quality, report.learner
    scored = quality.events > 0
    routed = any(expert.routed for expert in learner.experts)
    of_all = ""
    if len(partitions) > 1:
        of_all = html_table(
            "Partitions",
            ["partition", "state", "events read", "behind, records", "behind, s", "accuracy", "recent", "drifts"],
            [
                [
                    str(each.partition),
                    each.state,
                    _count(each.events_consumed),
                    _count(each.lag_records),
                    _number(each.lag_seconds, 1),
                    _percent(each.quality.accuracy, each.quality.events > 0),
                    _percent(each.quality.window_accuracy, each.quality.events > 0),
                    _count(each.learner.mixture_drifts),
                ]
                for each in partitions
            ],
        )
    labels = report.labels
    numbers = html_table(
        "Now",
        ["", "value"],
        [
            ["state", report.state],
            ["topic, partition", f"{report.topic}, {report.partition}"],
            ["events read", _count(report.events_consumed)],
            ["predictions committed", _count(report.predictions_committed)],
            ["dead letters", _count(sum(report.dead_letters.values()))],
            ["behind the log", f"{_count(report.lag_records)} records, {_number(report.lag_seconds, 1)} s"],
            ["waiting for a label", _count(report.pending_events)],
            ["labels learnt", _count(quality.events)],
            [
                "labels too late, again, or without event",
                _count(labels.received - labels.applied - report.early_labels),
            ],
            ["accuracy, all", _percent(quality.accuracy, scored)],
            ["accuracy, recent", _percent(quality.window_accuracy, scored)],
            ["kappa", _number(quality.kappa, 3, scored)],
            ["kappa over majority class", _number(quality.kappa_majority, 3, scored)],
            ["kappa over repeating the last label", _number(quality.kappa_temporal, 3, scored)],
            ["log loss", _number(quality.log_loss, 3, scored)],
            ["drifts, experts", _count(sum(expert.drifts for expert in learner.experts))],
            ["drifts, mixture", _count(learner.mixture_drifts)],
            ["router load (0 one expert, 1 even)", _number(learner.load_entropy, 2, routed)],
            ["router confidence", _number(learner.confidence, 2, routed)],
        ],
    )
    experts = html_table(
        "Experts",
        ["expert", "kind", "routed", "trained", "accuracy", "recent", "drifts", "resets", "returns", "nodes"],
        [
            [
                str(e),
                expert.kind,
                _count(expert.routed),
                _count(expert.trained),
                _percent(expert.accuracy, scored),
                _percent(expert.window_accuracy, scored),
                _count(expert.drifts),
                _count(expert.resets),
                _count(expert.returns),
                _count(expert.nodes),
            ]
            for e, expert in enumerate(learner.experts)
        ],
    )
    return f"{_HEAD}{of_all}{numbers}{experts}{_FOOT}"


def html_table(caption: str, columns: list[str], rows: list[list[str]]) -> str:
    """Lay rows of text out as a table whose first column names the row; one too wide for a phone moves by itself."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        "".join(
            [
                f'<tr><th scope="row">{escape(first)}</th>',
                *(f"<td>{escape(cell)}</td>" for cell in rest),
                "</tr>\n",
            ]
        )
        for first, *rest in rows
    )
    name = escape(caption)
    table = f"<table><caption>{name}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"
    return f'<div class="wide" role="region" aria-label="{name}" tabindex="0">{table}</div>\n'


def _count(value: int) -> str:
    return f"{value:,}"


def _number(value: float, digits: int, known: bool = True) -> str:
    return f"{value:.{digits}f}" if known and math.isfinite(value) else "unknown"


def _percent(value: float, known: bool) -> str:
    return f"{value:.1%}" if known and math.isfinite(value) else "unknown"
