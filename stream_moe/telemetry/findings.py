"""Is it well, and if not, why: one line each, from the numbers and the limits of the alerts.

An alert also waits some minutes until it is sure; the page shows it at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stream_moe.report import GroupReport, PartitionReport, no_better
from stream_moe.telemetry.alerts import ALERT
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.history import WINDOW, Past
from stream_moe.telemetry.memory import memory_limit, resident_memory

MINUTE = 60.0
MOST_NAMED = 8  # names in one reason


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know."""

    state: str  # a word or two: well, behind, stalled, not learning, drifting, at risk, or the state of the group
    tone: str  # good, note, warning or critical
    reason: str  # the numbers behind it
    alert: str = ""  # which alert watches the same; empty where none does


_ORDER = ("critical", "warning", "note", "good")


def _of(alert: str, state: str, reason: str) -> Finding:
    return Finding(state, ALERT[alert].severity, reason, ALERT[alert].name)


def judge(
    reports: Sequence[PartitionReport],
    group: GroupReport | None,
    hours: Mapping[int, Past],
    days: Mapping[int, Past],
    live: Verdict,
    is_replay: bool = False,
) -> list[Finding]:
    """Compare the numbers with the limits of the alerts; the worst finding first, never empty.

    `hours` and `days` are the past of the latest hour and day, of those partitions that have one. In a replay, which
    goes as fast as it can, minutes mean nothing, and nothing is waited for or saved.

    Examples
    --------
    >>> judge([], None, {}, {}, Verdict(True, "the loop turns"))[0].state
    'starting'
    """
    if not live.ok:
        return [_of("Stalled", "stalled", live.reason)]
    if not reports:
        if group is not None and group.state == "running":
            idle = "the group has no partition for this process; it is ready to take over"
            return [Finding("well", "good", idle)]
        return [Finding(group.state if group is not None else "starting", "note", "the first block is not finished")]
    state = group.state if group is not None else "running"
    if is_replay and state == "stopped":
        end = Finding("finished", "good", _praise(reports, is_replay))
        return [*(one for report in reports for one in _rare(report)), end]
    starts_or_ends = state != "running"
    found = [Finding(state, "note", _since_start(state, reports))] if starts_or_ends else []
    used, may = resident_memory(), memory_limit()
    if used > ALERT["MemoryNearLimit"].limit * may:
        reason = f"{used / 2**20:,.0f} of the {may / 2**20:,.0f} MiB that this process may have; at them it is killed"
        found.append(_of("MemoryNearLimit", "at risk", reason))
    for report in reports:
        where = f"partition {report.partition}: " if len(reports) > 1 else ""
        past = hours.get(report.partition)
        each = [] if is_replay else [*_flow(report, past), *_durability(report, past)]
        each += [*_inputs(report)]
        each += _learning(report, past, days.get(report.partition), is_replay)
        found += [replace(one, reason=where + one.reason) for one in each]
    found.sort(key=lambda one: _ORDER.index(one.tone))
    if not found or (found[0].tone == "note" and not starts_or_ends):
        found.insert(0, Finding("well", "good", _praise(reports, is_replay)))
    return found


def _since_start(state: str, reports: Sequence[PartitionReport]) -> str:
    if state == "recovering":
        return f"{sum(report.replayed_events for report in reports):,} events replayed from the log so far"
    said = {"draining": "the last block is finished, a checkpoint is written", "stopped": "nothing runs any more"}
    return said.get(state, "not all partitions are open yet")


def _praise(reports: Sequence[PartitionReport], is_replay: bool) -> str:
    quality = [report.quality for report in reports if report.quality.events]
    events = sum(each.events for each in quality)
    recent = sum(each.window_accuracy * each.events for each in quality) / events if events else math.nan
    right = f"{recent:.1%} of the recent predictions right" if events else "no label to score by yet"
    if is_replay:
        return right
    behind = max(report.lag_seconds for report in reports)
    return f"{right}, {behind:.1f} s behind the log"


def _flow(report: PartitionReport, past: Past | None) -> Iterator[Finding]:
    if report.lag_seconds > ALERT["LagGrowing"].limit:
        rate = past.rate("lag_records", 10 * MINUTE) if past is not None else None
        moves = "" if rate is None else ", and falls behind" if rate > 0 else ", and catches up"
        reason = f"{report.lag_seconds:,.0f} s and {report.lag_records:,} records behind the log{moves}"
        yield _of("LagGrowing", "behind", reason)
    if past is None:
        return
    window = ALERT["Stalled"].window
    if report.lag_records > 0 and past.increase("events", window) == 0:
        minutes = window / MINUTE
        reason = f"no event read for {minutes:.0f} min although the log has {report.lag_records:,} records"
        yield _of("Stalled", "stalled", reason)
    letters = ALERT["DeadLettersGrowing"]
    dead, events = (past.increase(name, letters.window, whole=False) for name in ("dead_letters", "events"))
    if dead and events is not None and dead / (dead + events) > letters.limit:
        most = max(report.dead_letters, key=lambda reason: report.dead_letters[reason])
        reason = f"{dead / (dead + events):.1%} of the latest records cannot be used: {most}"
        yield _of("DeadLettersGrowing", "at risk", reason)


def _inputs(report: PartitionReport) -> Iterator[Finding]:
    """Tell which features are gone, and which names come that are none."""
    if (found := report.inputs) is None or not (found.gone or found.names):
        return
    names = sorted(found.names, key=lambda name: -found.names[name])
    brought = f"records bring what is no feature and is ignored: {_some(names)}"
    if not found.gone:
        yield Finding("names ignored", "note", brought, ALERT["UnknownNames"].name)
        return
    also = f"; {brought}" if names else ""
    reason = f"{len(found.gone)} of {len(found.features)} features are missing that were there: {_some(found.gone)}"
    yield _of("FeaturesGone", "features gone", reason + also)


def _some(names: Sequence[str]) -> str:
    left = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {left:,} more" if left > 0 else "")


def _durability(report: PartitionReport, past: Past | None) -> Iterator[Finding]:
    if past is None:
        return
    window = ALERT["CheckpointFailing"].window
    if failures := past.increase("checkpoint_failures", window, whole=False):
        reason = f"{failures:.0f} checkpoints could not be written in the latest {window / MINUTE:.0f} min"
        yield _of("CheckpointFailing", "at risk", reason)
    stale = ALERT["CheckpointStale"]
    age = time.time() - report.checkpoint_time if report.checkpoint_time is not None else 0.0
    if age > stale.limit and past.increase("events", stale.window):
        reason = f"the newest checkpoint is {age / MINUTE:.0f} min old: a restart replays all since"
        yield _of("CheckpointStale", "at risk", reason)


def _learning(report: PartitionReport, past: Past | None, day: Past | None, is_replay: bool) -> Iterator[Finding]:
    learner, quality = report.learner, report.quality
    ago = quality.events - learner.last_mixture_drift
    if is_replay and learner.last_mixture_drift >= 0 and ago <= WINDOW:
        yield Finding("drifting", "warning", f"the mixture's error drifted {ago:,} events ago")
    e, best = max(enumerate(learner.experts), key=lambda each: each[1].window_accuracy)
    better, collapse = best.window_accuracy - quality.window_accuracy, ALERT["RouterCollapse"]
    # To keep to one expert that is simply the best is right, as on most streams.
    keeps_to_few = any(expert.routed for expert in learner.experts) and learner.load_entropy < collapse.limit
    if keeps_to_few and better > collapse.margin:
        reason = (
            f"the router sends nearly everything to few experts, and {e} {best.kind}, "
            f"recently {best.window_accuracy:.1%} right, is {100 * better:.0f} points better"
        )
        yield _of("RouterCollapse", "collapsed", reason)
    if day is not None and quality.events:
        scored = day["labels"] > 0
        usual = float(np.mean(day["accuracy"][scored])) if scored.any() else 0.0
        if usual - quality.window_accuracy > ALERT["AccuracyDrop"].limit:
            reason = f"recent accuracy {quality.window_accuracy:.1%}, {usual:.1%} on average of its day"
            yield _of("AccuracyDrop", "drifting", reason)
    yield from _rare(report)
    if past is None or is_replay:
        return
    burst = ALERT["DriftBurst"]
    drifts = past.increase("mixture_drifts", burst.window, whole=False)
    if drifts is not None and drifts > burst.limit:
        reason = f"{drifts:.0f} drifts of the mixture's error in the latest {burst.window / MINUTE:.0f} min"
        yield _of("DriftBurst", "drifting", reason)
    yield from _labels(report, past)


def _rare(report: PartitionReport) -> Iterator[Finding]:
    """Tell that a fixed answer would do as well, and which class is found least."""
    quality = report.quality
    scores = quality.accuracy, quality.kappa_majority, quality.class_labels
    largest = no_better(*scores, quality.cost, quality.class_costs)
    if largest is None:
        return
    least, share = int(np.nanargmin(quality.class_recall)), quality.class_labels[largest] / quality.class_labels.sum()
    found = f"; of {report.classes[least]} {quality.class_recall[least]:.1%} are found" if least != largest else ""
    reason = f"{quality.accuracy:.2%} right, and always naming {report.classes[largest]} is {share:.2%} right{found}"
    if quality.cost is not None and quality.class_costs is not None:
        n, each = quality.events, quality.class_costs[largest]
        reason = (
            f"answers cost {quality.cost / n:.4f} each, always naming {report.classes[largest]} {each / n:.4f}{found}"
        )
    yield _of("MajorityOnly", "majority only", reason)


def _labels(report: PartitionReport, past: Past) -> Iterator[Finding]:
    """The first thing that is wrong with the labels."""
    window, expiring = ALERT["LabelsMissing"].window, ALERT["LabelsExpiring"]
    events, labels = past.increase("events", window), past.increase("labels_received", window)
    if events and labels == 0 and report.labels.received:
        reason = f"{events:,.0f} events but no label in the latest {window / MINUTE:.0f} min"
        yield _of("LabelsMissing", "not learning", reason)
        return
    if report.events_consumed > WINDOW and not report.labels.received:
        reason = f"{report.events_consumed:,} events, and no label has come yet"
        yield Finding("not learning", "warning", reason)
        return
    window = expiring.window
    expired, events = past.increase("events_expired", window), past.increase("events", window)
    if expired and events and expired / events > expiring.limit:
        reason = f"{expired / events:.0%} of the events of the latest {window / MINUTE:.0f} min were never labelled"
        yield _of("LabelsExpiring", "not learning", reason)
