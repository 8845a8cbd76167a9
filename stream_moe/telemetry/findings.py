"""Is it well, and if not, why: one line each, from the numbers and the limits of the alerts.

An alert also waits some minutes until it is sure; the page shows it at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream_moe.report import GroupReport, PartitionReport
from stream_moe.telemetry.alerts import (
    ACCURACY_DROP,
    CHECKPOINT_FAILING,
    CHECKPOINT_STALE,
    DEAD_LETTERS_GROWING,
    DRIFT_BURST,
    LABELS_EXPIRING,
    LABELS_MISSING,
    LAG_GROWING,
    MEMORY_NEAR_LIMIT,
    ROUTER_COLLAPSE,
    STALLED,
)
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.history import WINDOW, Past
from stream_moe.telemetry.memory import memory_limit, resident_memory

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know.

    Attributes
    ----------
    state
        A word or two: well, behind, stalled, not learning, drifting, at risk, or the state of the group.
    tone
        good, note, warning or critical.
    reason
        The numbers behind it.
    alert
        Which alert watches the same; empty where none does.
    """

    state: str
    tone: str
    reason: str
    alert: str = ""


_ORDER = ("critical", "warning", "note", "good")


def judge(
    reports: Sequence[PartitionReport],
    group: GroupReport | None,
    hours: Mapping[int, Past],
    days: Mapping[int, Past],
    live: Verdict,
    is_replay: bool = False,
) -> list[Finding]:
    """Compare the numbers with the limits of the alerts; the worst finding first, never empty.

    Parameters
    ----------
    reports
        The latest of each partition.
    group
        This process in its group.
    hours, days
        The past of the latest hour and day, of those partitions that have one.
    live
        Whether the loop turns.
    is_replay
        A stream that is replayed as fast as it goes: minutes mean nothing, and nothing is waited for or saved.

    Examples
    --------
    >>> judge([], None, {}, {}, Verdict(True, "the loop turns"))[0].state
    'starting'
    """
    if not live.ok:
        return [Finding("stalled", "critical", live.reason, STALLED.name)]
    if not reports:
        return [_without_reports(group)]
    found: list[Finding] = []
    starts_or_ends = group is not None and group.state != "running"
    if is_replay and group is not None and group.state == "stopped":
        return [Finding("finished", "good", _praise(reports, is_replay))]
    if group is not None and starts_or_ends:
        found.append(Finding(group.state, "note", _since_start(group.state, reports)))
    found += _memory()
    for report in reports:
        where = f"partition {report.partition}: " if len(reports) > 1 else ""
        past = hours.get(report.partition)
        each = [] if is_replay else [*_flow(report, past), *_durability(report, past)]
        each += _learning(report, past, days.get(report.partition), is_replay)
        found += [Finding(one.state, one.tone, where + one.reason, one.alert) for one in each]
    found.sort(key=lambda one: _ORDER.index(one.tone))
    if not found or (found[0].tone == "note" and not starts_or_ends):
        found.insert(0, Finding("well", "good", _praise(reports, is_replay)))
    return found


def _memory() -> list[Finding]:
    used, may = resident_memory(), memory_limit()
    if used <= MEMORY_NEAR_LIMIT.limit * may:
        return []
    reason = f"{used / 2**20:,.0f} of the {may / 2**20:,.0f} MiB that this process may have; at them it is killed"
    return [Finding("at risk", "warning", reason, MEMORY_NEAR_LIMIT.name)]


def _without_reports(group: GroupReport | None) -> Finding:
    if group is not None and group.state == "running":
        return Finding("well", "good", "the group has no partition for this process; it is ready to take over")
    state = group.state if group is not None else "starting"
    return Finding(state, "note", "the first block is not finished")


def _since_start(state: str, reports: Sequence[PartitionReport]) -> str:
    if state == "recovering":
        return f"{sum(report.replayed_events for report in reports):,} events replayed from the log so far"
    return {
        "draining": "the last block is finished, a checkpoint is written",
        "stopped": "nothing runs any more",
    }.get(state, "not all partitions are open yet")


def _praise(reports: Sequence[PartitionReport], is_replay: bool) -> str:
    quality = [report.quality for report in reports if report.quality.events]
    events = sum(each.events for each in quality)
    recent = sum(each.window_accuracy * each.events for each in quality) / events if events else math.nan
    right = f"{recent:.1%} of the recent predictions right" if events else "no label to score by yet"
    if is_replay:
        return right
    behind = max(report.lag_seconds for report in reports)
    return f"{right}, {behind:.1f} s behind the log"


def _flow(report: PartitionReport, past: Past | None) -> list[Finding]:
    found = []
    if report.lag_seconds > LAG_GROWING.limit:
        rate = past.rate("lag_records", 10 * MINUTE) if past is not None else None
        moves = "" if rate is None else ", and falls behind" if rate > 0 else ", and catches up"
        reason = f"{report.lag_seconds:,.0f} s and {report.lag_records:,} records behind the log{moves}"
        found.append(Finding("behind", "warning", reason, LAG_GROWING.name))
    if past is None:
        return found
    if report.lag_records > 0 and past.increase("events", STALLED.window) == 0:
        minutes = STALLED.window / MINUTE
        reason = f"no event read for {minutes:.0f} min although the log has {report.lag_records:,} records"
        found.append(Finding("stalled", "critical", reason, STALLED.name))
    window = DEAD_LETTERS_GROWING.window
    dead, events = past.increase("dead_letters", window, whole=False), past.increase("events", window, whole=False)
    if dead and events is not None and dead / (dead + events) > DEAD_LETTERS_GROWING.limit:
        reason = f"{dead / (dead + events):.1%} of the latest records cannot be used: {_most(report.dead_letters)}"
        found.append(Finding("at risk", "warning", reason, DEAD_LETTERS_GROWING.name))
    return found


def _durability(report: PartitionReport, past: Past | None) -> list[Finding]:
    if past is None:
        return []
    found = []
    failures = past.increase("checkpoint_failures", CHECKPOINT_FAILING.window, whole=False)
    if failures:
        minutes = CHECKPOINT_FAILING.window / MINUTE
        reason = f"{failures:.0f} checkpoints could not be written in the latest {minutes:.0f} min"
        found.append(Finding("at risk", "warning", reason, CHECKPOINT_FAILING.name))
    age = time.time() - report.checkpoint_time if report.checkpoint_time is not None else 0.0
    if age > CHECKPOINT_STALE.limit and past.increase("events", CHECKPOINT_STALE.window):
        reason = f"the newest checkpoint is {age / MINUTE:.0f} min old: a restart replays all since"
        found.append(Finding("at risk", "warning", reason, CHECKPOINT_STALE.name))
    return found


def _learning(report: PartitionReport, past: Past | None, day: Past | None, is_replay: bool) -> list[Finding]:
    found = []
    learner, quality = report.learner, report.quality
    ago = quality.events - learner.last_mixture_drift
    if is_replay and learner.last_mixture_drift >= 0 and ago <= WINDOW:
        found.append(Finding("drifting", "warning", f"the mixture's error drifted {ago:,} events ago"))
    best = max(range(len(learner.experts)), key=lambda e: learner.experts[e].window_accuracy)
    better = learner.experts[best].window_accuracy - quality.window_accuracy
    # To keep to one expert that is simply the best is right, as on most streams.
    keeps_to_few = any(expert.routed for expert in learner.experts) and learner.load_entropy < ROUTER_COLLAPSE.limit
    if keeps_to_few and better > ROUTER_COLLAPSE.margin:
        reason = (
            f"the router sends nearly everything to few experts, and {best} {learner.experts[best].kind}, "
            f"recently {learner.experts[best].window_accuracy:.1%} right, is {100 * better:.0f} points better"
        )
        found.append(Finding("collapsed", "warning", reason, ROUTER_COLLAPSE.name))
    if day is not None and quality.events:
        scored = day["labels"] > 0
        usual = float(np.mean(day["accuracy"][scored])) if scored.any() else 0.0
        if usual - quality.window_accuracy > ACCURACY_DROP.limit:
            reason = f"recent accuracy {quality.window_accuracy:.1%}, {usual:.1%} on average of its day"
            found.append(Finding("drifting", "warning", reason, ACCURACY_DROP.name))
    if past is None or is_replay:
        return found
    drifts = past.increase("mixture_drifts", DRIFT_BURST.window, whole=False)
    if drifts is not None and drifts > DRIFT_BURST.limit:
        reason = f"{drifts:.0f} drifts of the mixture's error in the latest {DRIFT_BURST.window / MINUTE:.0f} min"
        found.append(Finding("drifting", "warning", reason, DRIFT_BURST.name))
    return found + _labels(report, past)


def _labels(report: PartitionReport, past: Past) -> list[Finding]:
    window = LABELS_MISSING.window
    events, labels = past.increase("events", window), past.increase("labels_received", window)
    if events and labels == 0 and report.labels.received:
        reason = f"{events:,.0f} events but no label in the latest {window / MINUTE:.0f} min"
        return [Finding("not learning", "warning", reason, LABELS_MISSING.name)]
    if report.events_consumed > WINDOW and not report.labels.received:
        reason = f"{report.events_consumed:,} events, and no label has come yet"
        return [Finding("not learning", "warning", reason)]
    window = LABELS_EXPIRING.window
    expired, events = past.increase("events_expired", window), past.increase("events", window)
    if expired and events and expired / events > LABELS_EXPIRING.limit:
        reason = f"{expired / events:.0%} of the events of the latest {window / MINUTE:.0f} min were never labelled"
        return [Finding("not learning", "warning", reason, LABELS_EXPIRING.name)]
    return []


def _most(reasons: Mapping[str, int]) -> str:
    return max(reasons, key=lambda reason: reasons[reason])
