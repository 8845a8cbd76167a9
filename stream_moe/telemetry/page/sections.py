"""What the live page shows, section by section, as text and charts for the template `live.html`."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup

from stream_moe.evaluation.scoreboard import quality_dict
from stream_moe.report import PartitionReport
from stream_moe.telemetry.history import MAX_CLASSES, MAX_EXPERTS, MAX_PARTITIONS, WINDOW, Past
from stream_moe.telemetry.page.charts import Line, heat_legend, heat_map, level, line_chart, thinned
from stream_moe.telemetry.page.view import View
from stream_moe.telemetry.table import METRICS
from stream_moe.telemetry.text import (
    CLASS_COLUMNS,
    UNKNOWN,
    class_rows,
    count,
    duration,
    least_found,
    number,
    percent,
    short,
    size,
)
from stream_moe.types import Float64

SCORES = (("accuracy", "one"), ("kappa", "two"), ("kappa_majority", "three"), ("kappa_temporal", "four"))
SCORE_NAMES = {"kappa_majority": "kappa_M"}
MAX_CONFUSED = 12  # classes up to which the page shows who is taken for whom
SCOPES = {
    "feature": "features", "expert": "errors of the experts", "mixture": "error of the mixture",
    "label": "rates of the labels",
}  # fmt: skip


def of(view: View) -> dict[str, Any]:
    """Return what the template needs beside the view; nothing before the first report."""
    report, past = view.report, view.past
    if report is None:
        return {}
    strongest = sorted(report.drift.strengths.items(), key=lambda each: -each[1])[:5]
    each_class = class_rows(report.classes, quality_dict(report.quality), MAX_CLASSES)
    shown: dict[str, Any] = {
        "tiles": _tiles(view, report), "partitions": _partitions(view),
        "window": f"{WINDOW:,}", "max_partitions": MAX_PARTITIONS, "max_classes": MAX_CLASSES,
        "kappa_known": past is not None and past.class_labels.shape[1] > 0,
        "moved": ", ".join(f"{name} {strength:.2f}" for name, strength in strongest),
        "drifts": _drifts(report), "each_class": each_class, "class_columns": CLASS_COLUMNS,
        "least_found": least_found(len(each_class), len(report.classes)), "confusion": _confusion(report),
        "numbers": _numbers(view, report),
    }  # fmt: skip
    lately = None
    if past is not None and len(past) > 1:
        lately = past.lately()
        shown |= {"scores": _scores(view, past), "flow": _flow(view, past)}
    if report.learner.experts:
        shown |= {
            "leads": _leads(report, lately), "experts": _experts(report, lately),
            "class_names": _class_names(report), "classes": _classes(report),
            "routing": None if past is None or lately is None else _routing(view, report, past, lately),
        }  # fmt: skip
    return shown


def _tiles(view: View, report: PartitionReport) -> list[tuple[str, str, str]]:
    """Name, value and what more there is to know of each headline number."""
    quality, learner = report.quality, report.learner
    scored = quality.events > 0
    rate = view.past.rate("events", 10.0) if view.past is not None else None
    majority, temporal = (number(k, 3, scored) for k in (quality.kappa_majority, quality.kappa_temporal))
    last = learner.last_mixture_drift
    ago = f"the last {count(max(0, quality.events - last))} labels ago; " if last >= 0 else ""
    drifts = f"{ago}{count(sum(expert.drifts for expert in learner.experts))} of its experts"
    in_all = f"{percent(quality.accuracy, scored)} in all"
    read = f"{count(report.events_consumed)} in all"
    tiles = [
        ("Accuracy, recent", percent(quality.window_accuracy, scored), in_all),
        ("Kappa", number(quality.kappa, 3, scored), f"kappa_M {majority}, kappa_temporal {temporal}"),
        ("Drifts of the mixture", count(learner.mixture_drifts), drifts),
        ("Events a second", UNKNOWN if rate is None else count(rate), read),
    ]
    if view.replay_events is not None:
        done = report.events_consumed / max(view.replay_events, 1)
        return [*tiles, ("Replayed", f"{done:.0%}", f"of {count(view.replay_events)} events")]
    age = None if report.checkpoint_time is None else max(0.0, time.time() - report.checkpoint_time)
    written = f"{size(report.checkpoint_bytes)}, took {number(report.checkpoint_seconds, 2)} s"
    return [
        *tiles,
        ("Behind the log", duration(report.lag_seconds), f"{count(report.lag_records)} records"),
        ("Waiting for a label", count(report.pending_events), f"{count(quality.events)} labels learnt"),
        ("Last checkpoint", "none" if age is None else f"{duration(age)} ago", "" if age is None else written),
    ]


def _partitions(view: View) -> list[tuple[PartitionReport, list[str]]]:
    """Each partition and the cells of its row behind its number."""
    rows = []
    for each, state in zip(view.reports, view.states, strict=True):
        quality, scored = each.quality, each.quality.events > 0
        flow = [count(each.events_consumed), count(each.lag_records), number(each.lag_seconds, 1)]
        scores = [percent(quality.accuracy, scored), percent(quality.window_accuracy, scored)]
        rows.append((each, [state.state, each.state, *flow, *scores, count(each.learner.mixture_drifts)]))
    return rows


def _scores(view: View, past: Past) -> Markup | None:
    scores = past.scores()
    lines = [
        Line(SCORE_NAMES.get(key, key), scores[key], ink) for key, ink in SCORES if np.isfinite(scores[key]).any()
    ]
    if not lines:
        return None
    drifts = np.diff(past["mixture_drifts"], prepend=past["mixture_drifts"][0])
    return line_chart("Accuracy and kappas", view.axis, lines, lambda value: f"{value:.2f}", drifts)


def _flow(view: View, past: Past) -> list[tuple[str, Markup]]:
    seconds = np.diff(past["time"])
    grown = np.divide(np.diff(past["events"]), seconds, out=np.full(len(seconds), np.nan), where=seconds > 0.01)
    series = [("Events a second", "events a second", np.concatenate([grown[:1], grown]))]
    if not view.is_replay:
        series.append(("Records behind the log", "records", past["lag_records"]))
    return [
        (title, line_chart(title, view.axis, [Line(name, values, "one")], short, height=110, counts=True))
        for title, name, values in series
    ]


def _drifts(report: PartitionReport) -> list[list[str]]:
    """What drifted: of the features, the experts' errors, the mixture's error and the labels."""
    learner, drift = report.learner, report.drift
    of_experts = (sum(each.warnings for each in learner.experts), sum(each.drifts for each in learner.experts))
    warnings = drift.warnings | {"expert": of_experts[0], "mixture": learner.mixture_warnings}
    found = Counter({"expert": of_experts[1], "mixture": learner.mixture_drifts})
    for (scope, _), n in drift.detections.items():
        found[scope] += n
    rows = []
    for scope, what in SCOPES.items():
        if scope in found or scope in warnings:
            last = drift.last_seconds.get(scope)
            when = "" if last is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(last))
            rows.append([what, count(found[scope]), count(warnings.get(scope, 0)), when])
    return rows


def _confusion(report: PartitionReport) -> list[tuple[str, list[tuple[str, str]]]]:
    """By true class: its name, and colour and text of the share of its events that got each answer."""
    counts = report.quality.confusion
    if counts is None or not 0 < len(counts) <= MAX_CONFUSED or not counts.any():
        return []
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    rows = zip(report.classes, shares.tolist(), strict=True)
    return [(name, [(level(share), f"{share:.0%}") if any(row) else ("", "") for share in row]) for name, row in rows]


def _name(report: PartitionReport, e: int) -> str:
    return f"{e} {report.learner.experts[e].kind}"


def _leads(report: PartitionReport, lately: Float64 | None) -> str:
    experts = report.learner.experts
    routed = [expert.routed for expert in experts[:MAX_EXPERTS]]
    lead = int(np.argmax(routed if lately is None else lately))
    share = "" if lately is None else f" with {lately[lead]:.0%} of the latest events"
    asleep = sum(expert.asleep for expert in experts[:MAX_EXPERTS])
    sleeping = f" {asleep} of {len(routed)} experts are asleep." if asleep else ""
    return f"{_name(report, lead)} leads{share}.{sleeping}"


def _routing(view: View, report: PartitionReport, past: Past, lately: Float64) -> Markup:
    """Heat map of the share of the labelled events that each expert was routed, by time."""
    names = [_name(report, e) for e in range(len(lately))]
    kept = thinned(len(past))
    grown = np.diff(past.routed[kept], axis=0).T
    shares = np.divide(grown, grown.sum(0), out=np.zeros_like(grown), where=grown.sum(0) > 0)
    most = ", ".join(f"{names[e]} {lately[e]:.0%}" for e in np.argsort(-lately)[:5])
    whole = view.axis
    axis = replace(whole, places=whole.places[kept], words=[whole.words[i] for i in kept])
    legend = heat_legend("Share of the labelled events that the router sent to an expert")
    name = f"Routing by expert and time; lately {most}"
    return legend + heat_map(name, axis, names, shares, [f"{share:.0%}" for share in lately])


def _class_names(report: PartitionReport) -> list[str]:
    n_classes = report.learner.expert_class.shape[1]
    return [*report.classes[: min(n_classes, MAX_CLASSES)], *(["other"] if n_classes > MAX_CLASSES else [])]


def _classes(report: PartitionReport) -> list[tuple[str, list[tuple[str, str]], str]]:
    """By expert: its name, colour and text of each class's share in its events, and how many these are."""
    rows = []
    for e, row in enumerate(report.learner.expert_class[:MAX_EXPERTS]):
        total = int(row.sum())
        counts = [*row[:MAX_CLASSES].tolist(), *([row[MAX_CLASSES:].sum()] if len(row) > MAX_CLASSES else [])]
        cells = [(level(n / total), f"{n / total:.0%}") if total else ("", "") for n in counts]
        rows.append((_name(report, e), cells, count(total)))
    return rows


def _experts(report: PartitionReport, lately: Float64 | None) -> list[list[str]]:
    scored = report.quality.events > 0
    counts = report.learner.expert_class
    rows = []
    for e, expert in enumerate(report.learner.experts):
        most = int(counts[e].argmax()) if e < len(counts) and counts[e].any() else None
        kind = expert.kind + (", asleep" if expert.asleep else "")
        share = f"{lately[e]:.1%}" if lately is not None and e < len(lately) else UNKNOWN
        mostly = "" if most is None else f"{report.classes[most]} {counts[e, most] / counts[e].sum():.0%}"
        work = [count(n) for n in (expert.routed, expert.trained)]
        scores = [percent(share, scored) for share in (expert.window_accuracy, expert.accuracy)]
        changes = [count(n) for n in (expert.drifts, expert.resets, expert.returns, expert.nodes)]
        rows.append([str(e), kind, share, mostly, *work, *scores, *changes, size(expert.memory_bytes)])
    return rows


def _numbers(view: View, report: PartitionReport) -> list[tuple[str, str]]:
    """All that the metric table shows on the page."""
    rows = [("state", report.state), ("topic, partition", f"{report.topic}, {report.partition}")]
    return rows + [row for spec in METRICS for row in spec.numbers(report, view.is_replay)]
