"""Sparse records through the engine on a log in memory: what a replay of the same rows does, crashes and all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.files import FileCheckpointStore
from connectors.memory import ABORT, EOF, MemoryLog, MemorySink, MemorySource, Record, SimulatedCrashError
from stream_moe import Schema, SparseDriftMoE, SparseRows, build_model, replay
from stream_moe.engine.codec import schema_header
from stream_moe.engine.join import LabelJoin
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.engine.sparse_codec import SparseCodec
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.streams.files import FileStream
from stream_moe.types import Block, RecordBatch
from tests.unit.test_sparse_streams import CLASSES, EVENTS, SCHEMA, Y

N = 400


def log_of(records: list[dict[str, Any]], marks: dict[int, object] | None = None) -> MemoryLog:
    log = MemoryLog()
    for i, record in enumerate(records):
        if marks and i in marks:
            log.append("events", marks[i])  # type: ignore[arg-type]
        headers = (schema_header(SCHEMA),) if i == 0 else ()
        log.append("events", Record(json.dumps(record).encode(), str(i).encode(), i, headers))
    log.append("events", EOF)
    return log


def engine(log: MemoryLog, state: Path, rows: int = 64) -> Engine:
    return Engine(
        MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group"),
        lambda _: FileCheckpointStore(state),
        lambda schema: build_model("driftmoe", schema),
        EngineSettings("driftmoe", block_rows=rows, checkpoint_events=100),
    )


def late(by: int) -> list[dict[str, Any]]:
    """Return each event without its label, and the label so many events later."""
    records = list[dict[str, Any]]()
    for i in range(N + by):
        if i < N:
            records.append({"id": f"e{i}", "x": EVENTS[i]})
        if i >= by:
            records.append({"id": f"e{i - by}", "y": CLASSES[Y[i - by]]})
    return records


@pytest.fixture(scope="module")
def expected() -> str:
    stream = FileStream("mails", SCHEMA, SparseRows.of(EVENTS[:N]), Y[:N])  # type: ignore[arg-type]
    return replay(stream, lambda schema: build_model("driftmoe", schema)).state_digest


def test_the_engine_equals_a_replay_whatever_form_a_record_has(tmp_path: Path, expected: str) -> None:
    records: list[dict[str, Any]] = [
        {"x": event, "y": CLASSES[y]} if i % 2 else event | {"y": CLASSES[y]}
        for i, (event, y) in enumerate(zip(EVENTS[:N], Y.tolist(), strict=False))
    ]
    ran = engine(log := log_of(records), tmp_path)
    ran.run()
    assert ran.tasks[0].learner.digest == expected
    assert len(log.records("predictions")) == N
    assert ran.tasks[0].learner.schema == SCHEMA


def test_late_labels_find_their_rows_through_crashes(tmp_path: Path) -> None:
    whole = engine(log_of(late(13)), tmp_path / "whole")
    whole.run()
    log = log_of(late(13), {150: ABORT, 333: ABORT, 700: ABORT})
    for _ in range(3):
        with pytest.raises(SimulatedCrashError):
            engine(log, tmp_path / "crashed", 50).run()
    crashed = engine(log, tmp_path / "crashed")
    crashed.run()
    assert crashed.tasks[0].learner.digest == whole.tasks[0].learner.digest
    assert len(log.records("predictions")) == N
    assert whole.tasks[0].learnt.join.counts.applied == N


def test_waiting_rows_are_in_a_checkpoint_and_damaged_ones_are_refused() -> None:
    join = LabelJoin(0, 2, sparse=True)
    rows: Any = SparseRows.of(EVENTS[:3])
    join.join(Block(rows, np.full(3, -1, np.int32), ["a", "b", "c"])).settle(np.zeros((3, 2)))
    state = join.snapshot()
    other = LabelJoin(0, 2, sparse=True)
    other.restore(state)
    label = Block(rows[:1], np.array([1], np.int32), ["b"], np.array([False]))
    joined: Any = other.join(label)
    assert joined.x.lengths.tolist() == [len(EVENTS[1])]
    for name, wrong in (("x.bucket", 2**18), ("x.start", 7), ("x.value", np.nan)):
        arrays = {key: array.copy() for key, array in state[0].items()}
        arrays[name][-1] = wrong
        with pytest.raises(CheckpointError, match="join"):
            LabelJoin(0, 2, sparse=True).restore((arrays, state[1]))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"x": [1, 2], "y": "ham"}', "bad-feature"),
        (b'{"x": {"a": [1]}}', "bad-feature"),
        (b'{"a": {"b": 1}}', "bad-feature"),
        (b'{"x": "words"}', "bad-feature"),
        (b'{"x": {"a": 1}, "y": "eggs"}', "unknown-class"),
        (b'{"x": {"a": 1}', "bad-json"),
        (b"[1]", "not-object"),
        (b"{}", "no-content"),
        (b'{"y": "ham"}', "no-id"),
        (b'{"x":' * 5000 + b"1" + b"}" * 5000, "too-deep"),
    ],
)
def test_what_is_no_record_is_a_dead_letter(value: bytes, reason: str) -> None:
    batch = RecordBatch(np.arange(1), np.zeros(1, np.int64), [None], [value], 1)
    block, dead = SparseCodec(SCHEMA).decode(batch)
    assert ([letter.reason for letter in dead], len(block)) == ([reason], 0)


def test_values_are_matched_as_in_dicts() -> None:
    value = (
        b'{"x": {"n": 2, "t": true, "s": "bob", "m": null, "z": 0, "big": 1e999, "nan": NaN, "q": "?"}, "y": "ham"}'
    )
    batch = RecordBatch(np.arange(2), np.zeros(2, np.int64), [None] * 2, [value, b'{"x": {}}'], 2)
    block, dead = SparseCodec(SCHEMA).decode(batch)
    rows: Any = block.x
    expected = SparseRows.of([{"n": 2, "t": True, "s": "bob"}, {}])
    assert not dead
    assert rows.bucket.tolist() == expected.bucket.tolist()
    assert rows.lengths.tolist() == [3, 0]


def test_a_model_for_each_key_takes_no_sparse_rows() -> None:
    with pytest.raises(ConfigError, match="no sparse rows"):
        KeyedLearner(SCHEMA, make=SparseDriftMoE)
    assert Schema.from_dict(json.loads(schema_header(SCHEMA)[1])) == SCHEMA
