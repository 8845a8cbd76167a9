"""Joining labels to events: what becomes of each label, what bounds the waiting, what a checkpoint keeps of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record
from stream_moe.engine.join import LabelJoin
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.errors import CheckpointError
from stream_moe.models.catalogue import build_model
from stream_moe.report import LabelCounts
from stream_moe.types import Block, Schema


def numeric_join(**options: float) -> LabelJoin:
    return LabelJoin(1, 2, **options)  # type: ignore[arg-type]


def record(name: str, x: float | None = None, y: int = -1, time: int = 0) -> Block:
    value = np.array([[np.nan if x is None else x]], np.float32)
    return Block(
        value, np.array([y], np.int32), [name], np.array([x is not None]), np.zeros(1, np.int64), np.array([time])
    )


def learnt(join: LabelJoin, *records: Block) -> list[tuple[float, int]]:
    rows = []
    for block in records:
        joined = join.join(block)
        joined.settle(np.full((len(joined.y), 2), 0.5))
        rows += [(float(x), int(y)) for x, y in zip(joined.x[:, 0], joined.y, strict=True) if y >= 0]
    return rows


def settled(counts: LabelCounts) -> int:
    return counts.applied + counts.expired + counts.duplicate + counts.conflicting + counts.orphan


def test_a_label_is_learnt_with_its_own_features() -> None:
    join = numeric_join()
    assert learnt(join, record("a", 1.0), record("b", 2.0), record("a", y=1), record("b", y=0)) == [
        (1.0, 1),
        (2.0, 0),
    ]
    assert (join.waiting, join.counts) == (0, LabelCounts(received=2, applied=2))


def test_an_early_label_waits_for_its_event() -> None:
    join = numeric_join()
    assert learnt(join, record("a", y=1)) == []
    assert (join.early, join.counts) == (1, LabelCounts(received=1))
    assert learnt(join, record("a", 3.0)) == [(3.0, 1)]
    assert (join.early, join.counts) == (0, LabelCounts(received=1, applied=1))


@pytest.mark.parametrize("first", ["late", "early"])
def test_a_second_label_is_a_duplicate_or_a_conflict(first: str) -> None:
    join = numeric_join()
    events = [record("a", 3.0), record("a", y=1)]
    assert learnt(join, *(events if first == "late" else events[::-1])) == [(3.0, 1)]
    assert learnt(join, record("a", y=1), record("a", y=0)) == []
    assert join.counts == LabelCounts(received=3, applied=1, duplicate=1, conflicting=1)


def test_the_first_of_two_early_labels_counts() -> None:
    join = numeric_join()
    assert learnt(join, record("a", y=1), record("a", y=0), record("a", y=1), record("a", 3.0)) == [(3.0, 1)]
    assert join.counts == LabelCounts(received=3, applied=1, duplicate=1, conflicting=1)


def test_an_early_label_of_an_event_that_brings_its_own_is_one_too_many() -> None:
    join = numeric_join()
    learnt(join, record("a", y=1), record("b", y=1))
    assert learnt(join, record("a", 3.0, y=1), record("b", 4.0, y=0)) == [(3.0, 1), (4.0, 0)]
    assert join.counts == LabelCounts(received=4, applied=2, duplicate=1, conflicting=1)


def test_an_orphan_is_given_up() -> None:
    join = numeric_join(timeout=10.0)
    learnt(join, record("z", y=0), record("b", 1.0, time=10_000))
    assert (join.early, join.counts.orphan) == (1, 0)
    learnt(join, record("c", 1.0, time=10_001), record("z", 5.0, time=10_002))
    assert (join.early, join.counts) == (0, LabelCounts(received=1, orphan=1))


def test_a_label_that_comes_when_its_event_gave_up_is_expired() -> None:
    join = numeric_join(timeout=10.0)
    learnt(join, record("b", 1.0), record("c", 1.0, y=0, time=10_001))
    assert (join.waiting, join.counts.events_expired) == (0, 1)
    assert learnt(join, record("b", y=1, time=10_002), record("b", y=0, time=10_003)) == []
    assert join.counts == LabelCounts(received=3, applied=1, expired=2, events_expired=1)


def test_an_id_that_is_used_again_is_a_new_event() -> None:
    join = numeric_join()
    assert learnt(join, record("a", 1.0), record("a", 2.0), record("a", y=1)) == [(2.0, 1)]
    assert join.counts == LabelCounts(received=1, applied=1, events_expired=1)
    assert learnt(join, record("a", 3.0), record("a", y=0)) == [(3.0, 0)]


def test_what_waits_is_bounded_by_count() -> None:
    join = numeric_join(max_waiting=10)
    learnt(join, *(record(f"e{i}", 1.0) for i in range(50)), *(record(f"l{i}", y=0) for i in range(50)))
    assert (join.waiting, join.counts.events_expired) == (10, 40)
    assert (join.early, join.counts.orphan) == (10, 40)
    assert learnt(join, record("e40", y=1), record("e39", y=1)) == [(1.0, 1)]
    assert join.counts.expired == 1


def many(names: Sequence[str], features: bool) -> Block:
    n = len(names)
    y = np.full(n, -1 if features else 1, np.int32)
    return Block(
        np.ones((n, 1), np.float32), y, list(names), np.full(n, features), np.arange(n), np.zeros(n, np.int64)
    )


@pytest.mark.parametrize("features", [True, False], ids=["events that never get a label", "a storm of labels"])
def test_memory_is_bounded_under_a_storm(features: bool) -> None:
    join = numeric_join(max_waiting=1000)

    def storm(start: int) -> None:
        for first in range(start, start + 20_000, 500):
            joined = join.join(many([f"id-{i}" for i in range(first, first + 500)], features))
            joined.settle(np.full((len(joined.y), 2), 0.5))

    storm(0)
    tracemalloc.start()
    storm(20_000)
    before, _ = tracemalloc.get_traced_memory()
    storm(40_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after < before + 100_000  # 20,000 more would be megabytes
    assert join.waiting + join.early == 1000
    assert join.counts.orphan + join.counts.events_expired == 59_000


RECORDS = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from(["event", "label", "both"]),
    st.integers(0, 1),
    st.sampled_from([0, 0, 1000, 4000]),
)


@given(st.lists(RECORDS, max_size=60), st.integers(1, 4), st.integers(1, 7))
def test_every_label_has_one_fate(records: list[tuple[str, str, int, int]], max_waiting: int, rows: int) -> None:
    """Whatever comes: labels are learnt at most once, the account balances, and a restart changes nothing."""
    join = numeric_join(max_waiting=max_waiting, timeout=5.0)
    time, events, found = 0, [], []
    for i, (name, kind, label, later) in enumerate(records):
        time += later
        x, y = (None if kind == "label" else float(i)), (-1 if kind == "event" else label)
        events.append((x, y))
        found += learnt(join, record(name, x, y, time))
        if i % rows == 0:
            again = numeric_join(max_waiting=max_waiting, timeout=5.0)
            again.restore(join.snapshot())
            join = again
        counts = join.counts
        assert counts.received == sum(y >= 0 for _, y in events) == settled(counts) + join.early
        assert counts.applied == len(found)
        assert max(join.waiting, join.early, len(join._done)) <= max_waiting
    rows_learnt = [x for x, _ in found]
    assert len(set(rows_learnt)) == len(rows_learnt)
    assert set(rows_learnt) <= {x for x, _ in events}
    without = sum(x is not None and y < 0 for x, y in events)  # events that came without a label
    both = sum(x is not None and y >= 0 for x, y in events)
    assert without == len(found) - both + join.counts.events_expired + join.waiting


def test_a_late_label_is_scored_with_the_prediction_made_when_its_event_came() -> None:
    join = numeric_join()
    first = join.join(record("a", 1.0))
    first.settle(np.array([[0.9, 0.1]]))
    restored = numeric_join()
    restored.restore(join.snapshot())
    for each in (join, restored):
        later = each.join(record("a", y=1))
        proba, y = later.settle(np.array([[0.2, 0.8]]))
        assert proba.tolist() == [[0.9, 0.1]]
        assert y.tolist() == [1]


def test_the_delay_of_a_label_is_told_once_and_not_by_a_replay(tmp_path: Path) -> None:
    log, delays = MemoryLog(), list[float]()
    late, early, together = b"a", b"b", b'{"id": "c", "x": [1.0], "y": "no"}'
    for name, what, at in [(late, b'"x": [1.0]', 1000), (early, b'"y": "yes"', 2000), (early, b'"x": [2.0]', 2500),
                           (late, b'"y": "no"', 61_000), (late, b'"y": "no"', 62_000)]:  # fmt: skip
        log.append("events", Record(b'{"id": "%b", %b}' % (name, what), timestamp=at))
    log.append("events", Record(together, timestamp=63_000))
    log.append("events", EOF)

    def run(folder: Path) -> None:
        Engine(
            MemorySource(log, "events", "g"),
            MemorySink(log, "events", "g"),
            lambda _: FileCheckpointStore(folder),
            lambda schema: build_model("naive-bayes", schema),
            EngineSettings("naive-bayes", block_rows=2),
            schema=Schema.numeric(1, ["no", "yes"]),
            on_report=lambda report: delays.extend(report.label_delays),
        ).run()

    run(tmp_path / "a")
    assert delays == [-0.5, 60.0]
    run(tmp_path / "b")  # has no checkpoint, so all is replayed
    assert delays == [-0.5, 60.0]


def test_the_bounds_are_part_of_whose_state_it_is(tmp_path: Path) -> None:
    """With other bounds other labels would be learnt, so a replay would come to another state."""

    def engine(**bounds: float) -> Engine:
        log = MemoryLog()
        log.extend("events", [b'{"id": "a", "x": [1.0], "y": "no"}', EOF])
        return Engine(
            MemorySource(log, "events", "g"),
            MemorySink(log, "events", "g"),
            lambda _: FileCheckpointStore(tmp_path),
            lambda schema: build_model("naive-bayes", schema),
            EngineSettings("naive-bayes", **bounds),  # type: ignore[arg-type]
            schema=Schema.numeric(1, ["no", "yes"]),
        )

    engine().run()
    with pytest.raises(CheckpointError, match="max_waiting was None, is 10"):
        engine(max_waiting=10).run()
    engine(max_waiting=100_000, label_seconds=86_400.0).run()
