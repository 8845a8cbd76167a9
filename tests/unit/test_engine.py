"""The engine on a log in memory: crashes, recovery, labels that come late, checkpoints that are bad."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.files import FileCheckpointStore
from connectors.memory import (
    ABORT,
    CORRUPT,
    EOF,
    PAUSE,
    MemoryLog,
    MemorySink,
    MemorySource,
    Record,
    SimulatedCrashError,
)
from stream_moe.checkpoints.checkpoint import Checkpoint, Owner
from stream_moe.engine.checkpoint import GENERATIONS
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.engine.replay import replay
from stream_moe.errors import CheckpointError, LogError
from stream_moe.models.published.data import DriftMoEData
from stream_moe.streams import open_stream

EVENTS = 3000
STREAM = open_stream("electricity")
BLOCK = next(STREAM.blocks(EVENTS))
CODEC = JsonCodec(STREAM.schema)


def filled_log(marks: dict[int, object] | None = None, header: bool = True) -> MemoryLog:
    log = MemoryLog()
    for i, value in enumerate(CODEC.encode_events(BLOCK)):
        if marks and i in marks:
            log.append("events", marks[i])  # type: ignore[arg-type]
        headers = (schema_header(STREAM.schema),) if header and i == 0 else ()
        log.append("events", Record(value, str(i).encode(), i, headers))
    log.append("events", EOF)
    return log


def make_engine(
    log: MemoryLog, state: Path, *, seed: int = 1, rows: int = 100, every: int = 500, **options: Any
) -> Engine:
    return Engine(
        MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group"),
        lambda _: FileCheckpointStore(state),
        lambda schema: DriftMoEData(schema, seed=seed),
        EngineSettings("driftmoe-data", block_rows=rows, checkpoint_events=every),
        **options,
    )


def offsets(log: MemoryLog) -> list[int]:
    return [json.loads(record.value or b"")["offset"] for record in log.records("predictions")]


@pytest.fixture(scope="module")
def expected() -> str:
    return replay(STREAM, DriftMoEData, events=EVENTS).state_digest


def test_the_engine_equals_a_replay(tmp_path: Path, expected: str) -> None:
    engine = make_engine(log := filled_log({1700: PAUSE}), tmp_path)
    engine.run()
    assert engine.tasks[0].learner.digest == expected
    assert offsets(log) == list(range(EVENTS))
    assert engine.state == "stopped"
    assert len(list(tmp_path.glob("*.ckpt"))) == GENERATIONS


@pytest.mark.parametrize("rows", [1, 97, 4096])
def test_crashes_while_reading(tmp_path: Path, expected: str, rows: int) -> None:
    log = filled_log({7: ABORT, 1234: ABORT, 2999: ABORT})
    for _ in range(3):
        with pytest.raises(SimulatedCrashError):
            make_engine(log, tmp_path, rows=rows).run()
    engine = make_engine(log, tmp_path, rows=rows)
    engine.run()
    assert engine.tasks[0].learner.digest == expected
    assert offsets(log) == list(range(EVENTS))


@pytest.mark.parametrize("point", ["fail_before_commit", "fail_after_commit"])
def test_crashes_around_a_commit(tmp_path: Path, expected: str, point: str) -> None:
    log = filled_log()

    def die_at_the_twelfth(_: object) -> None:
        assert isinstance(engine.sink, MemorySink)
        if engine.sink.commits == 11:
            setattr(engine.sink, point, SimulatedCrashError())

    engine = make_engine(log, tmp_path, on_report=die_at_the_twelfth)
    with pytest.raises(SimulatedCrashError):
        engine.run()
    engine = make_engine(log, tmp_path)
    engine.run()
    assert engine.tasks[0].learner.digest == expected
    assert offsets(log) == list(range(EVENTS))


def test_checkpoints_that_are_bad_or_ahead_are_not_used(tmp_path: Path, expected: str) -> None:
    log = filled_log({2000: ABORT})
    with pytest.raises(SimulatedCrashError):
        make_engine(log, tmp_path).run()
    newest, before = sorted(tmp_path.glob("*.ckpt"))[::-1][:2]
    newest.write_bytes(newest.read_bytes()[:-100])
    flipped = bytearray(before.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    before.write_bytes(bytes(flipped))
    engine = make_engine(log, tmp_path)
    engine.run()
    assert engine.tasks[0].learner.digest == expected
    assert offsets(log) == list(range(EVENTS))

    behind = MemoryLog()  # a group that committed less than the checkpoints know
    behind.extend("events", log.records("events"))
    behind.append("events", EOF)
    engine = make_engine(behind, tmp_path)
    engine.run()
    assert engine.tasks[0].learner.digest == expected
    assert offsets(behind) == list(range(EVENTS))


def test_no_checkpoint_and_a_trimmed_log_is_refused(tmp_path: Path) -> None:
    log = filled_log({2000: ABORT})
    with pytest.raises(SimulatedCrashError):
        make_engine(log, tmp_path / "a").run()
    log.trim("events", 1000)
    for schema in (None, STREAM.schema):
        engine = make_engine(log, tmp_path / "b", schema=schema)
        with pytest.raises(CheckpointError, match="starts at 1000"):
            engine.run()


def test_a_trimmed_log_with_its_checkpoints_goes_on(tmp_path: Path, expected: str) -> None:
    log = filled_log({2000: ABORT})
    with pytest.raises(SimulatedCrashError):
        make_engine(log, tmp_path).run()
    log.trim("events", 1500)  # the record with the schema is gone; the checkpoint has it
    engine = make_engine(log, tmp_path)
    engine.run()
    assert engine.tasks[0].learner.digest == expected


def test_a_position_that_was_trimmed_away_is_lost_loudly(tmp_path: Path) -> None:
    log = filled_log({2000: ABORT})
    with pytest.raises(SimulatedCrashError):
        make_engine(log, tmp_path).run()
    log.trim("events", 2500)
    with pytest.raises(LogError, match="is lost"):
        make_engine(log, tmp_path).run()


def test_another_model_does_not_take_over_a_state(tmp_path: Path) -> None:
    log = filled_log({2000: ABORT})
    with pytest.raises(SimulatedCrashError):
        make_engine(log, tmp_path).run()
    with pytest.raises(CheckpointError, match="another model, schema or setting"):
        make_engine(log, tmp_path, seed=2).run()


def test_dead_letters_keep_their_bytes_and_harm_nobody(tmp_path: Path) -> None:
    log = MemoryLog()
    values = CODEC.encode_events(BLOCK)[:300]
    log.append("events", Record(values[0], b"0", 0, (schema_header(STREAM.schema),)))
    bad = [b"{", b"\xff", b'{"id": "1", "x": [1], "y": "UP"}', b'{"x": [1,2,3,4,5,6], "y": "NEVER"}', b""]
    for value, junk in zip(values[1:], bad * 60, strict=False):
        log.extend("events", [value, junk])
    log.extend("events", [CORRUPT, EOF])
    engine = make_engine(log, tmp_path)
    engine.run()
    alone = DriftMoEData(STREAM.schema)
    alone.learn_many(BLOCK.x[:300], BLOCK.y[:300])
    assert engine.tasks[0].learner.digest == alone.digest
    letters = [record.value for record in log.records("dead-letters")]
    assert letters[:5] == bad
    assert len(letters) == 300
    assert len(offsets(log)) == 300


def test_dead_letters_are_told_while_they_are_few(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog()
    log.append("events", Record(CODEC.encode_events(BLOCK)[0], b"0", 0, (schema_header(STREAM.schema),)))
    log.extend("events", [Record(b"{", None, t) for t in range(1, 121)])
    log.extend("events", [Record(b'{"x": [1]}', b"e", 121), ABORT, EOF])
    with pytest.raises(SimulatedCrashError):
        make_engine(log, tmp_path, rows=50).run()
    told = [record.getMessage() for record in caplog.records if "dead letter" in record.getMessage()]
    assert [text.partition(",")[2].partition(" for")[0] for text in told] == [
        " its first",
        " its 10th",
        " its 100th",
        " its first",
    ]
    assert told[0].startswith("partition 0: dead letter, its first for this reason, offset 1: bad-json: ")
    assert "offset 121: bad-length" in told[3]
    caplog.clear()
    shutil.rmtree(tmp_path)
    make_engine(log, tmp_path).run()  # learns the log anew, and has told of all this
    assert not [record for record in caplog.records if "dead letter" in record.getMessage()]


def test_a_log_that_ends_before_the_committed_offset(tmp_path: Path) -> None:
    log = filled_log()
    make_engine(log, tmp_path).run()
    shorter = MemoryLog()
    shorter.extend("events", [*log.records("events")[:100], EOF])
    shorter.commit("events", "group", 0, shorter.fence("events", "group"), 3000)
    with pytest.raises(LogError):
        make_engine(shorter, tmp_path).run()


def test_a_checkpoint_proves_itself_whole() -> None:
    made = Checkpoint(7, Owner("f", "g/t/0", {"k": "3"}), {"a": 1}, {"x": np.arange(5.0)})
    content = made.to_bytes()
    found = Checkpoint.from_bytes(content)
    assert (found.offset, found.owner, found.plain) == (7, made.owner, {"a": 1})
    assert found.arrays["x"].tolist() == [0, 1, 2, 3, 4]
    for cut in range(0, len(content), 7):
        with pytest.raises(CheckpointError):
            Checkpoint.from_bytes(content[:cut])
    for place in range(0, len(content), 11):
        broken = bytearray(content)
        broken[place] ^= 0x10
        with pytest.raises(CheckpointError):
            Checkpoint.from_bytes(bytes(broken))


def test_an_empty_topic_without_schema_is_refused(tmp_path: Path) -> None:
    log = MemoryLog()
    log.append("events", EOF)
    with pytest.raises(LogError, match="empty"):
        make_engine(log, tmp_path).run()
