"""The book of drifts: when, where and which, in a replay, with late labels, and exactly once from an engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.files import FileCheckpointStore
from connectors.memory import ABORT, EOF, MemoryLog, MemorySink, MemorySource, Record, SimulatedCrashError
from stream_moe.drift.watch import DriftWatch
from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.engine.replay import replay
from stream_moe.models.catalogue import build_model
from stream_moe.models.published.data import DriftMoEData
from stream_moe.ports import Stream
from stream_moe.report import Drift
from stream_moe.streams import open_stream
from stream_moe.types import Schema

STREAM = open_stream("electricity")
EVENTS = 25_000


def drifts(stream: Stream = STREAM, model: str = "driftmoe-data", **options: int) -> list[Drift]:
    settings: dict[str, Any] = {"events": EVENTS} | options
    return replay(stream, lambda schema: build_model(model, schema), **settings).drift_log


@pytest.fixture(scope="module")
def whole() -> list[Drift]:
    return drifts(chunk=10_000)


def test_a_replay_tells_every_drift_that_was_counted_and_when(whole: list[Drift]) -> None:
    result = replay(STREAM, DriftMoEData, events=EVENTS)
    found = [drift.scope for drift in result.drift_log]
    assert {scope: found.count(scope) for scope in result.drifts_by_scope} == result.drifts_by_scope
    assert {"feature", "expert", "mixture"} <= set(found)
    assert [drift.event for drift in whole] == sorted(drift.event for drift in whole)
    assert all(drift.offset == drift.event - 1 and drift.within == 0 for drift in whole)
    last = max(drift.event for drift in whole if drift.scope == "mixture")
    assert last == result.learner.last_mixture_drift


@pytest.mark.parametrize("chunk", [7, 256])
def test_blocks_of_any_size_tell_the_same(whole: list[Drift], chunk: int) -> None:
    assert drifts(chunk=chunk) == whole


def test_late_labels_do_not_delay_what_the_features_tell(whole: list[Drift]) -> None:
    def of(found: list[Drift], scope: str) -> list[int]:
        return [drift.event for drift in found if drift.scope == scope]

    late = drifts(label_delay=3_000)
    assert of(late, "feature") == of(whole, "feature") != []
    first = min(of(late, "expert"))
    assert drifts(label_delay=3_000, chunk=331) == late
    assert first > 3_000 + 300  # not before its label came


def test_an_expert_with_a_detector_of_its_own_is_told_to_the_block() -> None:
    found = drifts(open_stream("electricity"), "driftmoe", events=10_000, chunk=500)
    own = [drift for drift in found if drift.scope == "expert" and drift.within]
    assert own
    assert all(drift.event % 500 == 0 and drift.within == 500 and drift.strength is None for drift in own)


def test_a_changed_class_rate_is_a_drift_of_the_label() -> None:
    rng, schema = np.random.default_rng(1), Schema.numeric(1, ["a", "b", "c"])
    y = rng.choice(3, 30_000, p=[0.4, 0.4, 0.2]).astype(np.int32)
    y[20_000:] = rng.choice(3, 10_000, p=[0.4, 0.05, 0.55])
    x, at = rng.random((30_000, 1)).astype(np.float32), np.arange(30_000)
    [drift] = DriftWatch(schema).update(DriftMoEData(schema), x, at, at, y, at + 1)
    assert (drift.scope, drift.which in "bc", 20_000 < drift.event < 24_000) == ("label", True, True)


def test_the_drifts_topic_has_every_drift_once_whatever_crashes(tmp_path: Path) -> None:
    events, crashes = 20_000, (7_000, 9_100, 17_001)
    values = JsonCodec(STREAM.schema).encode_events(next(STREAM.blocks(events)))

    def run(state: Path, marks: tuple[int, ...]) -> list[dict[str, object]]:
        log = MemoryLog()
        for i, value in enumerate(values):
            if i in marks:
                log.append("events", ABORT)
            log.append("events", Record(value, str(i).encode(), 1_000 * i))
        log.append("events", EOF)
        for attempt in range(len(marks) + 1):
            engine = Engine(
                MemorySource(log, "events", "group"),
                MemorySink(log, "events", "group", drifts="drifts"),
                lambda _: FileCheckpointStore(state),
                DriftMoEData,
                EngineSettings("driftmoe-data", block_rows=1000, checkpoint_events=3000),
                schema=STREAM.schema,
            )
            if attempt < len(marks):
                with pytest.raises(SimulatedCrashError):
                    engine.run()
            else:
                engine.run()
        assert engine.tasks[0].learnt.watch.report().last_seconds["feature"] > 0
        return [json.loads(record.value or b"") for record in log.records("drifts")]

    whole = run(tmp_path / "whole", ())
    assert [(drift["event"], drift["which"]) for drift in whole] == [
        (drift.event, drift.which) for drift in drifts(events=events)
    ]
    assert all(drift["timestamp"] == 1_000 * drift["offset"] for drift in whole)  # type: ignore[operator]
    assert run(tmp_path / "crashed", crashes) == whole != []
