"""The live page without a browser: a bounded and exact past, the verdict of the alerts, rationed drawing."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import tracemalloc
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from stream_moe.evaluation.metrics import Prequential
from stream_moe.evaluation.timeline import window_scores
from stream_moe.report import GroupReport, LabelCounts, PartitionReport
from stream_moe.telemetry import findings
from stream_moe.telemetry.alerts import ALERTS, RECORDED
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.findings import judge
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.history import MAX_PARTITIONS, POINTS, SPANS, History, Past
from stream_moe.telemetry.page import live as page_module
from stream_moe.telemetry.page.live import LivePage
from tests.unit.reports import make_inputs, make_report

FINE = Verdict(True, "the loop turns")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def at(events: int, **changes: Any) -> PartitionReport:
    """Report after so many events, all of them labelled, nine in ten right, routed to the experts in turn."""
    report = make_report(events_consumed=events, **changes)
    quality = report.quality
    quality.events, quality.cost = events, None
    quality.class_labels = quality.class_predictions = np.array(
        [events - 2 * (events // 3), events // 3, events // 3]
    )
    quality.class_right = quality.class_labels * 9 // 10
    for e, expert in enumerate(report.learner.experts):
        expert.routed = events * (e + 1) // 6
    return report


def test_a_year_takes_as_much_room_as_a_minute() -> None:
    clock = Clock()
    history = History(clock)
    history.add(at(0))
    size = history.nbytes
    for turn in range(1, 30_000):  # a year, a report every 18 minutes
        clock.now += 365 * 86_400 / 30_000
        history.add(at(100 * turn))
    assert history.nbytes == size < 100_000
    for span, seconds in SPANS.items():
        past = history.past(3, span)
        assert past is not None
        assert 3 <= len(past) <= POINTS + 1
        assert past["time"][-1] - past["time"][0] <= (seconds or np.inf)
        assert past["events"][-1] == 2_999_900  # the latest is always there
    whole = history.past(3, "all")
    assert whole is not None
    assert whole["events"][0] == 0  # the first, too
    assert len(whole) >= POINTS / 2


def test_partitions_are_bounded_and_forgotten() -> None:
    history = History()
    for partition in range(3 * MAX_PARTITIONS):
        history.add(at(10, partition=partition))
    assert history.past(MAX_PARTITIONS, "all") is None
    history.keep([1])
    assert history.past(0, "all") is None
    assert history.past(1, "all") is not None
    history.add(at(10, partition=MAX_PARTITIONS))
    assert history.past(MAX_PARTITIONS, "all") is not None


def test_a_state_that_went_back_begins_a_new_past() -> None:
    clock = Clock()
    history = History(clock)
    for events in (100, 200, 50, 60):
        history.add(at(events))
        clock.now += 10
    past = history.past(3, "all")
    assert past is not None
    assert past["events"].tolist() == [50, 60]


def test_scores_between_points_are_those_of_the_labels_between_them() -> None:
    rng, clock = np.random.default_rng(1), Clock()
    history, quality = History(clock), Prequential(3)
    confusions, references = [], []
    for _ in range(6):
        y = rng.integers(0, 3, 1_500).astype(np.int32)
        quality.update(rng.dirichlet(np.ones(3), len(y)) + 0.5 * np.eye(3)[y], y)
        report = quality.report()
        confusions.append(quality.confusion)
        references.append((report.majority_right, report.no_change_right))
        history.add(replace(make_report(), quality=report))
        clock.now += 10
    past = history.past(3, "all")
    assert past is not None
    scores = past.scores()
    for i in range(1, 6):
        between = confusions[i] - confusions[i - 1]
        counts = [between.sum(), np.trace(between), *np.subtract(references[i], references[i - 1])]
        wanted = window_scores(np.array(counts), np.stack([between.sum(1), between.sum(0)]))
        assert [scores[name][i] for name in scores] == pytest.approx(wanted, abs=1e-5)


BETTER = [replace(expert, window_accuracy=0.96) for expert in make_report().learner.experts]
# How a report differs from a fine one after half an hour of a report every 20 seconds; what the page then says.
AILING: list[tuple[str, dict[str, Any], str]] = [
    ("StreamMoeLagGrowing", {"lag_seconds": 61.0}, "behind"),
    ("StreamMoeStalled", {"events_consumed": 0}, "stalled"),
    ("StreamMoeDeadLettersGrowing", {"dead_letters": {"bad-json": 40}}, "at risk"),
    ("StreamMoeFeaturesGone", {"inputs": make_inputs(gone=("x1",), names={"y1": 900})}, "features gone"),
    ("StreamMoeUnknownNames", {"inputs": make_inputs(names={"y1": 900})}, "names ignored"),
    ("StreamMoeCheckpointStale", {"checkpoint_time": time.time() - 901}, "at risk"),
    ("StreamMoeCheckpointFailing", {"checkpoint_failures": {"space": 9}}, "at risk"),
    ("StreamMoeDriftBurst", {"mixture_drifts": 7}, "drifting"),
    ("StreamMoeRouterCollapse", {"load_entropy": 0.29, "experts": BETTER}, "collapsed"),
    ("StreamMoeMajorityOnly", {"kappa_majority": -0.1}, "majority only"),
    ("StreamMoeAccuracyDrop", {"window_accuracy": 0.75}, "drifting"),
    ("StreamMoeLabelsMissing", {"labels": LabelCounts(received=900)}, "not learning"),
    ("StreamMoeLabelsExpiring", {"labels": LabelCounts(received=9_000, events_expired=200)}, "not learning"),
    ("StreamMoeMemoryNearLimit", {"may_have": 1}, "at risk"),
]


def judged(changes: dict[str, Any]) -> list[Any]:
    clock = Clock()
    history = History(clock)
    for turn in range(100):
        events, changed = 1_000 + 30 * turn, turn == 99
        report = at(events, labels=LabelCounts(received=events if "labels" not in changes else 900))
        if changes == {"events_consumed": 0}:
            report.events_consumed = 1_000
        clock.now += 20
        for name, value in changes.items() if changed else ():
            for part in (report, report.quality, report.learner):
                if hasattr(part, name) and value:
                    setattr(part, name, value)
        history.add(report)
    pasts: list[Past] = [past for span in ("hour", "day") if (past := history.past(3, span)) is not None]
    with patch.object(findings, "memory_limit", lambda: changes.get("may_have", 1 << 60)):
        return judge([report], GroupReport("running", (3,)), {3: pasts[0]}, {3: pasts[1]}, FINE)


@pytest.mark.parametrize(("alert", "changes", "state"), AILING, ids=[case[0] for case in AILING])
def test_the_verdict_says_what_the_alert_says(alert: str, changes: dict[str, Any], state: str) -> None:
    assert [one.alert for one in judged({})] == [""]
    found = [one for one in judged(changes) if one.alert]
    assert [(one.alert, one.state) for one in found] == [(alert, state)]


def test_every_alert_is_judged_but_those_that_a_process_cannot_know_of_itself() -> None:
    elsewhere = {"Absent", "RetentionRisk", "WatchdogFired", "FencedOrInDoubt", "RebalanceStorm", "DeadExpert"}
    assert {case[0] for case in AILING} == {alert.name for alert in ALERTS} - {
        f"StreamMoe{name}" for name in elsewhere
    }


def test_every_number_of_an_alert_is_in_its_condition() -> None:
    for alert in ALERTS:
        numbers = {"limit": alert.limit, "margin": alert.margin, "window": alert.window}
        used = [name for name, number in numbers.items() if number and f"${name}" in alert.expr]
        recorded = "".join(promql for name, promql in RECORDED.items() if name in alert.expr)
        if f"[{alert.window / 60:g}m]" in recorded or f"[{alert.window / 86_400:g}d]" in recorded:
            used.append("window")  # the query that the condition names looks back as far
        assert used == [name for name, number in numbers.items() if number], alert.name


def test_the_worst_stands_first() -> None:
    report = make_report(lag_seconds=100.0)
    report.learner.load_entropy, report.learner.experts = 0.1, BETTER
    found = judge([report, make_report(partition=4)], GroupReport("running", (3, 4)), {}, {}, FINE)
    assert [(one.state, one.reason[:12]) for one in found] == [
        ("behind", "partition 3:"),
        ("collapsed", "partition 3:"),
    ]
    stuck = judge([report], None, {}, {}, Verdict(False, "the loop stands still for 121 s (limit 120 s)"))
    assert [(one.state, one.tone) for one in stuck] == [("stalled", "critical")]
    assert judge([make_report()], GroupReport("recovering", (3,)), {}, {}, FINE)[0].state == "recovering"


def test_a_view_is_drawn_once_a_second_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, real = list[tuple[float, int]](), page_module.render

    def render(view: Any) -> str:
        drawn.append((time.monotonic(), view.report.partition))
        return real(view)

    monkeypatch.setattr(page_module, "render", render)
    board = Board()
    for partition in range(4):
        board.update(make_report(partition=partition))
    page, bodies = LivePage(board, lambda: FINE), list[bytes]()
    threads = [
        threading.Thread(target=lambda n=n: bodies.append(page.answer(f"partition={n % 4}").body)) for n in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bodies) == 40
    assert {partition for _, partition in drawn} == set(range(4))
    assert all(b - a >= page_module.GAP_SECONDS for (a, _), (b, _) in itertools.pairwise(drawn))
    for partition in range(4):
        times = [at for at, which in drawn if which == partition]
        assert all(b - a >= page_module.CACHE_SECONDS for a, b in itertools.pairwise(times))


def test_names_are_escaped_and_the_unknown_is_owned_up_to() -> None:
    board = Board()
    report = make_report(topic="<script>alert(1)</script>")
    report.classes = ("<b>", '"', "c")
    report.quality.events = 0
    report.learner.load_entropy = float("nan")
    report.learner.experts[0].kind = "<i>"
    board.update(report)
    body = LivePage(board, lambda: FINE).answer("").body.decode()
    assert body.count("<script") == 1
    assert "<b>" not in body
    assert "<i>" not in body
    assert body.count("unknown") >= 7
    assert ">nan" not in body


@pytest.mark.parametrize(
    "query", ["partition=9", "partition=-1", "partition=%00", "partition=" + "9" * 5_000, "span=x"]
)
def test_a_view_that_is_not_there_is_one_line(query: str) -> None:
    board = Board()
    board.update(make_report())
    status, _, body, _ = LivePage(board, lambda: FINE).answer(query)
    assert status == 404
    assert body.count(b"\n") == 1
    assert b"9" * 20 not in body


@pytest.mark.parametrize(("experts", "classes"), [(1, 2), (64, 33), (70, 1_000)])
def test_any_number_of_experts_and_classes_fits(experts: int, classes: int) -> None:
    clock = Clock()
    board = Board(clock)
    for events in range(0, 2_000, 20):
        report = make_report(experts, classes)
        report.quality.events = report.events_consumed = events
        for e, expert in enumerate(report.learner.experts):
            expert.routed = events * (e % 5)
        clock.now += 30
        board.update(report)
    status, _, body, _ = LivePage(board, lambda: FINE).answer("span=all")
    assert status == 200
    assert len(body) < 600_000


def test_a_page_left_open_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn again and again, each time anew; a day at a refresh every 5 seconds is 17,280 times."""
    monkeypatch.setattr(page_module, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr(page_module, "GAP_SECONDS", 0.0)
    board = Board()
    board.update(at(1_000))
    page = LivePage(board, lambda: FINE)

    def draw(times: int) -> int:
        for turn in range(times):
            page.answer(("", "partition=3", "span=day", "span=all")[turn % 4])
        gc.collect()
        # Of the page alone: threads that other tests left in this process allocate as well, when they get their turn.
        own = tracemalloc.Filter(True, "*/stream_moe/telemetry/*", all_frames=True)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([own]).traces)

    tracemalloc.start(8)
    try:
        before = draw(100)
        assert draw(300) - before < 20_000  # less than one page
    finally:
        tracemalloc.stop()
