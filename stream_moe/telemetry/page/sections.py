"""The parts of the live page, each a heading with a picture or a table."""

from __future__ import annotations

import time
from collections import Counter
from html import escape

import numpy as np

from stream_moe.report import PartitionReport
from stream_moe.telemetry.history import MAX_CLASSES, MAX_EXPERTS, MAX_PARTITIONS, SPANS, WINDOW
from stream_moe.telemetry.page.charts import Line, heat_legend, heat_map, level, line_chart, thinned
from stream_moe.telemetry.page.html import (
    UNKNOWN,
    count,
    duration,
    html_table,
    link,
    number,
    percent,
    region,
    short,
    size,
)
from stream_moe.telemetry.page.view import View
from stream_moe.types import Float64

SCORES = (
    ("accuracy", "accuracy", "one"),
    ("kappa", "kappa", "two"),
    ("over majority", "kappa_majority", "three"),
    ("over repeating", "kappa_temporal", "four"),
)

SCOPES = {
    "feature": "features",
    "expert": "errors of the experts",
    "mixture": "error of the mixture",
    "label": "rates of the labels",
}


def where(view: View) -> str:
    """What is looked at, beside the title."""
    if view.report is None:
        return ""
    what = "replay of" if view.replay_events is not None else "topic"
    held = "" if view.replay_events is not None else f", partition {view.report.partition}"
    return f'<p class="muted">{what} {escape(view.report.topic)}{held}</p>'


def of(view: View) -> list[tuple[str, str]]:
    """Name and content of every section that there is something to say in."""
    report = view.report
    if report is None:
        return []
    parts = [("now", _tiles(view, report))]
    if len(view.reports) > 1:
        parts.append(("overview", _partitions(view)))
    if view.past is not None and len(view.past) > 1:
        parts += [("quality", _quality(view)), ("flow", _flow(view))]
    elif view.past is None:
        parts.append(("quality", f'<p class="how">The past is kept of the first {MAX_PARTITIONS} partitions.</p>\n'))
    parts.append(("drifts", _drifts(report)))
    if report.learner.experts:
        parts += [("routing", _routing(view, report)), ("experts", _experts(view, report))]
    return [*parts, ("all-numbers", _numbers(view, report))]


def _tiles(view: View, report: PartitionReport) -> str:
    quality, learner = report.quality, report.learner
    scored = quality.events > 0
    rate = view.past.rate("events", 10.0) if view.past is not None else None
    majority, temporal = (number(k, 3, scored) for k in (quality.kappa_majority, quality.kappa_temporal))
    tiles = [
        ("Accuracy, recent", percent(quality.window_accuracy, scored), f"{percent(quality.accuracy, scored)} in all"),
        ("Kappa", number(quality.kappa, 3, scored), f"{majority} over majority, {temporal} over repeating"),
        (
            "Drifts of the mixture",
            count(learner.mixture_drifts),
            f"{_last_drift(report)}{count(sum(expert.drifts for expert in learner.experts))} of its experts",
        ),
        (
            "Events a second",
            count(rate) if rate is not None else UNKNOWN,
            f"{count(report.events_consumed)} in all",
        ),
    ]
    if view.replay_events is not None:
        done = report.events_consumed / max(view.replay_events, 1)
        tiles.append(("Replayed", f"{done:.0%}", f"of {count(view.replay_events)} events"))
    else:
        age = None if report.checkpoint_time is None else max(0.0, time.time() - report.checkpoint_time)
        written = f"{size(report.checkpoint_bytes)}, took {number(report.checkpoint_seconds, 2)} s"
        tiles += [
            ("Behind the log", duration(report.lag_seconds), f"{count(report.lag_records)} records"),
            ("Waiting for a label", count(report.pending_events), f"{count(quality.events)} labels learnt"),
            ("Last checkpoint", "none" if age is None else f"{duration(age)} ago", "" if age is None else written),
        ]
    cells = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="big">{escape(value)}</dd>'
        f'<dd class="small">{escape(more)}</dd></div>\n'
        for name, value, more in tiles
    )
    return f'<dl class="tiles">\n{cells}</dl>\n'


def _last_drift(report: PartitionReport) -> str:
    last = report.learner.last_mixture_drift
    return f"the last {count(max(0, report.quality.events - last))} labels ago; " if last >= 0 else ""


def _partitions(view: View) -> str:
    rows = []
    for each, state in zip(view.reports, view.states, strict=True):
        known = each.quality.events > 0
        rows.append(
            [
                link(_target(view, partition=each.partition), str(each.partition), each is view.report),
                state.state,
                each.state,
                count(each.events_consumed),
                count(each.lag_records),
                number(each.lag_seconds, 1),
                percent(each.quality.accuracy, known),
                percent(each.quality.window_accuracy, known),
                count(each.learner.mixture_drifts),
            ]
        )
    columns = ["partition", "verdict", "state", "events read", "behind, records", "behind, s", "accuracy", "recent"]
    return html_table("Partitions", [*columns, "drifts"], rows)


def _quality(view: View) -> str:
    past = view.past
    assert past is not None
    scores = past.scores()
    lines = [Line(name, scores[key], ink) for name, key, ink in SCORES if np.isfinite(scores[key]).any()]
    if not lines:
        return '<h2>Quality</h2>\n<p class="how">No label has come yet to score by.</p>\n'
    drifts = np.diff(past["mixture_drifts"], prepend=past["mixture_drifts"][0])
    chart = line_chart("Accuracy and kappas", view.axis, lines, lambda value: f"{value:.2f}", drifts)
    marked = '<span class="drift-key">Dashed</span>: the error of the mixture drifted.'
    more = "" if past.class_labels.shape[1] else f" No kappa over chance: it is kept for up to {MAX_CLASSES} classes."
    return (
        f'<h2>Quality</h2>\n<p class="how">Over at least {WINDOW:,} labels before each point. {marked}{more}</p>\n'
        f"{_spans(view)}{chart}"
    )


def _drifts(report: PartitionReport) -> str:
    """What drifted: of the features, the experts' errors, the mixture's error and the labels."""
    learner, drift = report.learner, report.drift
    warnings = drift.warnings | {
        "expert": sum(expert.warnings for expert in learner.experts),
        "mixture": learner.mixture_warnings,
    }
    found = Counter({"expert": sum(expert.drifts for expert in learner.experts), "mixture": learner.mixture_drifts})
    for (scope, _), n in drift.detections.items():
        found[scope] += n
    rows = []
    for scope, what in SCOPES.items():
        if scope in found or scope in warnings:
            last = drift.last_seconds.get(scope)
            when = "" if last is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(last))
            rows.append([what, count(found[scope]), count(warnings.get(scope, 0)), when])
    table = html_table(
        "Since the start", ["of", "drifts", "warnings", "the last at (UTC, event time)"], rows, "by-scope"
    )
    strongest = sorted(drift.strengths.items(), key=lambda each: -each[1])[:5]
    features = ", ".join(f"{name} {strength:.2f}" for name, strength in strongest)
    moved = f"<p>Features that moved most, 0 to 1: {escape(features)}.</p>\n" if strongest else ""
    return f"<h2>What drifted</h2>\n{moved}{table}"


def _flow(view: View) -> str:
    past = view.past
    assert past is not None
    axis, seconds = view.axis, np.diff(past["time"])
    grown = np.divide(np.diff(past["events"]), seconds, out=np.full(len(seconds), np.nan), where=seconds > 0.01)
    rate = np.concatenate([grown[:1], grown])
    speed = line_chart(
        "Events a second", axis, [Line("events a second", rate, "one")], short, height=110, counts=True
    )
    found = f"<div><h2>Events a second</h2>\n{speed}</div>"
    if view.replay_events is None:
        lag = line_chart(
            "Records behind the log",
            axis,
            [Line("records", past["lag_records"], "one")],
            short,
            height=110,
            counts=True,
        )
        found += f"<div><h2>Records behind the log</h2>\n{lag}</div>"
    return f'<div class="two">{found}</div>\n'


def _spans(view: View) -> str:
    if view.replay_events is not None:
        return ""
    names = {"hour": "latest hour", "day": "latest day", "all": "since the start"}
    links = "".join(link(_target(view, span=span), names[span], span == view.span) for span in SPANS)
    return f'<nav class="spans" aria-label="Span of the pictures">{links}</nav>\n'


def _target(view: View, partition: int | None = None, span: str | None = None) -> str:
    assert view.report is not None
    shown = view.report.partition if partition is None else partition
    return f"/?partition={shown}&span={span or view.span}"


def _routing(view: View, report: PartitionReport) -> str:
    experts = report.learner.experts[:MAX_EXPERTS]
    names = [f"{e} {expert.kind}" for e, expert in enumerate(experts)]
    lead = max(range(len(experts)), key=lambda e: experts[e].routed)
    picture = ""
    if view.past is not None and len(view.past) > 1:
        kept = thinned(len(view.past))
        axis, routed = view.axis, view.past.routed[kept]
        grown = np.diff(routed, axis=0).T
        shares = np.divide(grown, grown.sum(0), out=np.zeros_like(grown), where=grown.sum(0) > 0)
        lately = _lately(view)
        lead = int(lately.argmax())
        axis = type(axis)(axis.places[kept], axis.labels, [axis.words[i] for i in kept])
        told = ", ".join(f"{names[e]} {lately[e]:.0%}" for e in np.argsort(-lately)[:5])
        picture = (
            "<div><h2>Who answers, and when</h2>\n"
            + heat_legend("Share of the labelled events that the router sent to an expert")
            + heat_map(
                f"Routing by expert and time; lately {told}", axis, names, shares, [f"{s:.0%}" for s in lately]
            )
            + "</div>"
        )
    asleep = sum(expert.asleep for expert in experts)
    sleeping = f" {asleep} of {len(experts)} experts are asleep." if asleep else ""
    words = (
        f"{names[lead]} leads{'' if view.past is None else f' with {_lately(view)[lead]:.0%} of the latest events'}."
    )
    return f'<p class="how">{escape(words + sleeping)}</p>\n<div class="two">{picture}{_classes(report)}</div>\n'


def _lately(view: View) -> Float64:
    """Share of each expert in the latest labelled events, `WINDOW` at least where there are as many."""
    past = view.past
    assert past is not None
    labels = past["labels"]
    before = max(0, min(int(np.searchsorted(labels, labels[-1] - WINDOW, side="right")) - 1, len(labels) - 2))
    grown = past.routed[-1] - past.routed[before]
    return grown / max(float(grown.sum()), 1.0)


def _classes(report: PartitionReport) -> str:
    counts = report.learner.expert_class[:MAX_EXPERTS]
    shown = min(counts.shape[1], MAX_CLASSES)
    names = [escape(name) for name in report.classes[:shown]] + (["other"] if counts.shape[1] > shown else [])
    rows = []
    for e, row in enumerate(counts):
        total = max(int(row.sum()), 1)
        shares = [
            *(row[:shown] / total).tolist(),
            *([float(row[shown:].sum()) / total] if counts.shape[1] > shown else []),
        ]
        cells = "".join(
            f'<td class="{level(share)}">{share:.0%}</td>' if row.sum() else "<td></td>" for share in shares
        )
        kind = escape(report.learner.experts[e].kind)
        rows.append(f'<tr><th scope="row">{e} {kind}</th>{cells}<td>{count(int(row.sum()))}</td></tr>\n')
    head = "".join(f'<th scope="col">{name}</th>' for name in ["expert", *names, "events"])
    table = region(
        "Share of each class in the labelled events routed to an expert, since the start",
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>",
        "class-by-expert",
    )
    return f'<div class="classes"><h2>Who answers what</h2>\n{table}</div>'


def _experts(view: View, report: PartitionReport) -> str:
    scored = report.quality.events > 0
    lately = _lately(view) if view.past is not None and len(view.past) > 1 else None
    counts = report.learner.expert_class
    rows = []
    for e, expert in enumerate(report.learner.experts):
        most = int(counts[e].argmax()) if e < len(counts) and counts[e].any() else None
        rows.append(
            [
                str(e),
                expert.kind + (", asleep" if expert.asleep else ""),
                f"{lately[e]:.1%}" if lately is not None and e < len(lately) else UNKNOWN,
                "" if most is None else f"{report.classes[most]} {counts[e, most] / counts[e].sum():.0%}",
                count(expert.routed),
                count(expert.trained),
                percent(expert.window_accuracy, scored),
                percent(expert.accuracy, scored),
                count(expert.drifts),
                count(expert.resets),
                count(expert.returns),
                count(expert.nodes),
                size(expert.memory_bytes),
            ]
        )
    columns = ["expert", "kind", "share, recent", "mostly", "routed", "trained", "accuracy, recent", "accuracy, all"]
    return "<h2>Experts</h2>\n" + html_table(
        "Since the start, and over the latest labels",
        [*columns, "drifts", "resets", "returns", "nodes", "memory"],
        rows,
        "each-expert",
    )


def _numbers(view: View, report: PartitionReport) -> str:
    quality, learner, labels = report.quality, report.learner, report.labels
    scored, routed = quality.events > 0, any(expert.routed for expert in learner.experts)
    rows = [["state", report.state], ["topic, partition", f"{report.topic}, {report.partition}"]]
    rows.append(["events read", count(report.events_consumed)])
    if view.replay_events is None:
        saved = report.checkpoint_time is not None
        rows += [
            ["predictions committed", count(report.predictions_committed)],
            ["dead letters", count(sum(report.dead_letters.values()))],
            ["behind the log, records", count(report.lag_records)],
            ["behind the log, s", number(report.lag_seconds, 1)],
            ["kept in the log before here, records", count(report.retention_headroom)],
            ["waiting for a label", count(report.pending_events)],
            [
                "labels too late, again, or without event",
                count(labels.received - labels.applied - report.early_labels),
            ],
            ["checkpoint, bytes", count(report.checkpoint_bytes) if saved else UNKNOWN],
            ["checkpoint, s to write", number(report.checkpoint_seconds, 2, saved)],
            ["checkpoints that failed", count(sum(report.checkpoint_failures.values()))],
        ]
    rows += [
        ["labels learnt", count(quality.events)],
        ["accuracy, all", percent(quality.accuracy, scored)],
        ["accuracy, recent", percent(quality.window_accuracy, scored)],
        ["kappa", number(quality.kappa, 3, scored)],
        ["kappa over majority class", number(quality.kappa_majority, 3, scored)],
        ["kappa over repeating the last label", number(quality.kappa_temporal, 3, scored)],
        ["log loss", number(quality.log_loss, 3, scored)],
        ["drifts, experts", count(sum(expert.drifts for expert in learner.experts))],
        ["drifts, mixture", count(learner.mixture_drifts)],
        ["router load (0 one expert, 1 even)", number(learner.load_entropy, 2, routed)],
        ["router confidence", number(learner.confidence, 2, routed)],
        ["class known from the expert (0 not, 1 wholly)", number(learner.class_information, 2, routed)],
        ["experts right together", number(learner.overlap, 2, routed)],
        ["model, memory", size(learner.model_bytes)],
    ]
    return "<h2>All numbers</h2>\n" + html_table(
        "Since the start unless it says recent", ["", "value"], rows, "numbers"
    )
