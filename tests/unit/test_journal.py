"""Labels in a topic of their own: crashes and replays in the journal's order, and what a replay that differs does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.files import FileCheckpointStore
from connectors.memory import (
    ABORT,
    EOF,
    Mark,
    MemoryLog,
    MemoryReader,
    MemorySink,
    MemorySource,
    Record,
    SimulatedCrashError,
)
from stream_moe.engine import journal
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.engine.journal import JournaledSource
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.entries import JournalEntry
from stream_moe.errors import CheckpointError, ConfigError, LogError, UnavailableError
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.report import PartitionReport
from stream_moe.streams import open_stream
from stream_moe.types import UNLABELLED, Block, Schema
from tests.simulation.inputs import Rehearsal

EVENTS, LATE, MODEL = 600, 40, "naive-bayes"
STREAM = open_stream("electricity")
BLOCK = next(STREAM.blocks(EVENTS))
CODEC = JsonCodec(STREAM.schema)
NAMES = [str(i) for i in range(EVENTS)]
EVENT_VALUES = CODEC.encode_events(Block(BLOCK.x, np.full(EVENTS, UNLABELLED, np.int32), NAMES))
LABEL_VALUES = CODEC.encode_events(Block(BLOCK.x, BLOCK.y, NAMES, np.zeros(EVENTS, np.bool_)))


def filled_log(marks: dict[int, Mark] | None = None) -> MemoryLog:
    """Fill two topics: an event a second, and each label 40 seconds after its event."""
    log = MemoryLog()
    for i, value in enumerate(EVENT_VALUES):
        if marks and i in marks:
            log.append("events", marks[i])
        log.append("events", Record(value, None, 1000 * i, (schema_header(STREAM.schema),) if i == 0 else ()))
    log.extend("labels", [Record(value, None, 1000 * (i + LATE)) for i, value in enumerate(LABEL_VALUES)])
    log.create("journal")
    for topic in ("events", "labels"):
        log.append(topic, EOF)
    return log


def make_learner(schema: Schema) -> BlockClassifier:
    return build_model(MODEL, schema)


def make_engine(log: MemoryLog, state: Path, *, rows: int = 50, every: int = 130, **options: Any) -> Engine:
    events = MemorySource(log, "events", "group")
    return Engine(
        JournaledSource(events, MemoryReader(log, "labels"), MemoryReader(log, "journal")),
        MemorySink(log, "events", "group", journal="journal"),
        lambda _: FileCheckpointStore(state),
        options.pop("make_learner", make_learner),
        EngineSettings(MODEL, block_rows=rows, checkpoint_events=every),
        **options,
    )


def rehearsed(log: MemoryLog, state: Path) -> dict[int, str]:
    """The state of an uninterrupted run in the order of a log's journal."""
    again = filled_log()
    again.extend("journal", [*log.records("journal"), EOF])
    engine = make_engine(again, state)
    engine.source = Rehearsal(
        MemorySource(again, "events", "group"), MemoryReader(again, "labels"), MemoryReader(again, "journal")
    )
    engine.sink = MemorySink(again, "events", "group")
    engine.run()
    assert again.records("predictions") == log.records("predictions")
    return engine.digests()


def entries(log: MemoryLog) -> list[JournalEntry]:
    return [JournalEntry.from_json(record.value or b"") for record in log.records("journal")]


def test_every_label_is_learnt_with_its_event_and_every_block_is_in_the_journal(tmp_path: Path) -> None:
    engine = make_engine(log := filled_log(), tmp_path / "a")
    engine.run()
    assert engine.tasks[0].learnt.join.counts.applied == EVENTS
    assert [json.loads(record.value or b"")["offset"] for record in log.records("predictions")] == list(range(EVENTS))
    written = entries(log)
    assert [entry.sequence for entry in written] == list(range(1, len(written) + 1))
    assert written[-1].pair == (EVENTS, EVENTS)
    assert rehearsed(log, tmp_path / "b") == engine.digests()


@pytest.mark.parametrize("rows", [7, 50, 4096])
def test_a_replay_takes_the_blocks_of_the_run_before(tmp_path: Path, rows: int) -> None:
    log = filled_log({90: ABORT, 310: ABORT, 333: ABORT, 599: ABORT})
    for _ in range(4):
        with pytest.raises(SimulatedCrashError):
            make_engine(log, tmp_path / "a").run()
    engine = make_engine(log, tmp_path / "a", rows=rows)
    engine.run()
    assert engine.tasks[0].learnt.join.counts.applied == EVENTS
    assert rehearsed(log, tmp_path / "b") == engine.digests()


def test_without_any_checkpoint_the_journal_is_replayed_from_its_start(tmp_path: Path) -> None:
    make_engine(log := filled_log(), tmp_path / "a").run()
    reports: list[PartitionReport] = []
    engine = make_engine(log, tmp_path / "b", rows=11, on_report=reports.append)
    engine.run()
    assert reports[-1].replayed_events == 2 * EVENTS
    assert reports[-1].replay_divergences == 0
    assert rehearsed(log, tmp_path / "c") == engine.digests()


@pytest.mark.parametrize("rows", [1, 2, 5, 4096])
def test_the_place_in_a_long_journal_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(journal, "JOURNAL_ROWS", rows)
    engine = make_engine(log := filled_log(), tmp_path, rows=10)
    engine.run()
    written = entries(log)
    assert len(written) == 60
    source = engine.source
    assert isinstance(source, JournaledSource)
    for at in (0, 1, 7, 30, 58, 59):
        found = source._blocks(0, written[at].position)
        assert written[at] in found
        assert found[-1] == written[-1]
        assert len(found) <= len(written) - at + rows


def test_a_journal_that_lost_blocks_stops_loudly(tmp_path: Path) -> None:
    make_engine(log := filled_log(), tmp_path / "a").run()
    log.trim("journal", 2)
    with pytest.raises(LogError, match=r"'journal'/0 no longer holds all blocks from 1 to \d+"):
        make_engine(log, tmp_path / "b").run()
    make_engine(log, tmp_path / "a").run()  # with the newest checkpoint there is nothing to replay


def test_a_journal_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_engine(log := filled_log(), tmp_path / "a").run()
    monkeypatch.setattr(journal, "JOURNAL_SECONDS", 0.01)
    source = make_engine(log, tmp_path / "b").source
    assert isinstance(source, JournaledSource)
    monkeypatch.setattr(source._journal, "poll", lambda rows, timeout: [])
    with pytest.raises(UnavailableError, match=r"'journal'/0: no record from offset 0 on"):
        source._blocks(0)


def test_a_topic_that_is_not_the_one_of_the_journal(tmp_path: Path) -> None:
    make_engine(log := filled_log(), tmp_path / "a").run()
    other = MemoryLog()
    other.extend("events", [*log.records("events"), EOF])
    other.extend("labels", [*log.records("labels")[:99], EOF])
    other.extend("journal", log.records("journal"))
    entry = log.entry("events", "group")
    other.commit("events", "group", 0, other.fence("events", "group"), EVENTS, [], entry)
    with pytest.raises(LogError, match="before the committed offset"):
        make_engine(other, tmp_path / "a").run()
    # As many records in all, but not in the same topics.
    other.extend("events", [*log.records("events")])
    with pytest.raises(LogError, match="they are not what was committed to"):
        make_engine(other, tmp_path / "a").run()


def test_a_journal_of_somebody_else(tmp_path: Path) -> None:
    make_engine(log := filled_log(), tmp_path / "a").run()
    log.append("journal", b"what is this")
    with pytest.raises(LogError, match="no entry of one"):
        make_engine(log, tmp_path / "b").run()


def plain_engine(log: MemoryLog, state: Path, **options: Any) -> Engine:
    return Engine(
        MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group"),
        lambda _: FileCheckpointStore(state),
        options.pop("make_learner", make_learner),
        EngineSettings(options.pop("model", MODEL), block_rows=50, checkpoint_events=130),
        **options,
    )


def test_a_group_keeps_to_its_kind(tmp_path: Path) -> None:
    make_engine(log := filled_log(), tmp_path / "a").run()
    with pytest.raises(ConfigError, match="name it with --labels"):
        plain_engine(log, tmp_path / "b").run()
    plain_engine(plain := filled_log(), tmp_path / "c").run()
    with pytest.raises(ConfigError, match="go on without --labels"):
        make_engine(plain, tmp_path / "d").run()


def test_a_group_keeps_to_its_model_where_the_state_is_gone(tmp_path: Path) -> None:
    plain_engine(log := filled_log(), tmp_path / "a").run()
    other = {"make_learner": lambda schema: build_model("no-change", schema)}
    differs = (
        f"position of group/events/0: made by another model.*the model was {MODEL}, is no-change.*another --group"
    )
    with pytest.raises(CheckpointError, match=differs):
        plain_engine(log, tmp_path / "b", model="no-change", **other).run()
    plain_engine(log, tmp_path / "c").run()  # the same model learns the log anew


def test_a_position_that_a_former_version_committed_tells_of_no_model(tmp_path: Path) -> None:
    plain_engine(log := filled_log(), tmp_path / "a").run()
    entry = log.entry("events", "group", 0)
    assert entry is not None
    assert entry.fingerprint is not None
    assert entry.parameters is not None
    former = JournalEntry.from_json(entry.brief())
    assert former == replace(entry, fingerprint=None, parameters=None)
    log.commit("events", "group", 0, log.fence("events", "group"), entry.offset, [], former)
    other = {"make_learner": lambda schema: build_model("no-change", schema)}
    plain_engine(log, tmp_path / "b", model="no-change", **other).run()


def test_a_note_beside_the_position_stays_below_what_kafka_takes() -> None:
    entry = JournalEntry(1 << 60, 1 << 60, 1 << 60, "0badcafe", "f" * 64, {"names": "x" * 3400})
    assert 3400 < len(entry.to_json()) < 4096
    assert JournalEntry.from_json(entry.to_json()) == entry
    assert entry.parameters is not None
    longer = replace(entry, parameters=entry.parameters | {"more": "y" * 100})
    assert JournalEntry.from_json(longer.to_json()) == replace(entry, parameters=None)


def test_the_topic_of_the_labels_is_part_of_whose_state_it_is(tmp_path: Path) -> None:
    make_engine(filled_log(), tmp_path).run()
    with pytest.raises(CheckpointError, match="labels was 'labels', is None"):
        plain_engine(filled_log(), tmp_path).run()


def test_what_cannot_be_a_label_names_its_topic(tmp_path: Path) -> None:
    log = filled_log()
    log.extend("labels", [b"{", b'{"id": "1", "x": [0,0,0,0,0,0]}', b'{"id": "600", "x": [0], "y": "UP"}'])
    log._marks.clear()
    for topic in ("events", "labels"):
        log.append(topic, EOF)
    make_engine(log, tmp_path).run()
    letters = log.records("dead-letters")
    found = [dict(letter.headers) for letter in letters]
    assert [header["__streams.errors.exception"] for header in found] == [b"bad-json", b"no-content", b"bad-length"]
    assert {header["__streams.errors.topic"] for header in found} == {b"labels"}


@pytest.mark.parametrize("two_topics", [True, False])
def test_a_replay_that_gives_other_answers_is_counted_and_goes_on(tmp_path: Path, two_topics: bool) -> None:
    """As another CPU would: its answers differ in the last bits."""
    make, log = (make_engine if two_topics else plain_engine), filled_log({400: ABORT})
    with pytest.raises(SimulatedCrashError):
        make(log, tmp_path).run()
    before = log.records("predictions")
    for checkpoint in sorted(tmp_path.glob("*.ckpt"))[1:]:
        checkpoint.unlink()
    reports: list[PartitionReport] = []

    def other_machine(schema: Any) -> Any:
        model = build_model(MODEL, schema)
        step = model.step
        model.step = lambda *rows, **more: np.nextafter(step(*rows, **more), 1.0)  # type: ignore[method-assign]
        return model

    make(log, tmp_path, on_report=reports.append, make_learner=other_machine).run()
    assert reports[-1].replayed_events > 0
    assert reports[-1].replay_divergences >= 1
    assert log.records("predictions")[: len(before)] == before
    assert [json.loads(record.value or b"")["offset"] for record in log.records("predictions")] == list(range(EVENTS))
