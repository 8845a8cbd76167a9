"""What the live page shows at one moment: one partition's report and past, and the judgement of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_moe.report import PartitionReport
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.findings import Finding, judge
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.history import Past
from stream_moe.telemetry.page.charts import Axis
from stream_moe.telemetry.text import duration, short


@dataclass(frozen=True, slots=True)
class View:
    """Everything for one page."""

    findings: list[Finding]  # of all partitions, the worst first
    reports: Sequence[PartitionReport]
    states: Sequence[Finding]  # what is worst in each partition
    report: PartitionReport | None  # the one that is shown, None before the first
    past: Past | None  # of it, over `span`; None where none is kept
    span: str
    replay_events: int | None  # how long the replay will be; None for the daemon

    @property
    def is_replay(self) -> bool:
        """Whether a stream is replayed; else a log is read."""
        return self.replay_events is not None

    @property
    def axis(self) -> Axis:
        """Where the points of the past are: by time, or by events in a replay."""
        assert self.past is not None
        if self.is_replay:
            at = self.past["events"]
            words = [f"{n:,.0f} events" for n in at.tolist()]
            labels = [short(float(n)) for n in np.linspace(at[0], at[-1], 3)]
            labels[-1] += " events"
        else:
            at = self.past["time"]
            ages = (at[-1] - at).tolist()
            words = [f"{duration(age)} ago" for age in ages]
            labels = [f"{duration(ages[0])} ago", f"{duration(ages[0] / 2)} ago", "now"]
        whole = at[-1] - at[0]
        return Axis((at - at[0]) / whole if whole > 0 else np.linspace(0.0, 1.0, len(at)), labels, words)


def look(board: Board, live: Verdict, partition: int | None, span: str | None, replay_events: int | None) -> View:
    """Gather a view; `partition` None = the first, `span` None = the latest hour, all of it in a replay."""
    reports, group, history = board.reports, board.group, board.history
    is_replay = replay_events is not None
    span = span or ("all" if is_replay else "hour")
    hours: dict[int, Past] = {}
    days: dict[int, Past] = {}
    for each in reports:
        for pasts, name in ((hours, "hour"), (days, "all" if is_replay else "day")):
            if (past := history.past(each.partition, name)) is not None:
                pasts[each.partition] = past
    findings = judge(reports, group, hours, days, live, is_replay)
    states = [judge([each], None, hours, days, live, is_replay)[0] for each in reports]
    report = next((each for each in reports if each.partition == partition), reports[0] if reports else None)
    past = history.past(report.partition, span) if report is not None else None
    return View(findings, reports, states, report, past, span, replay_events)
