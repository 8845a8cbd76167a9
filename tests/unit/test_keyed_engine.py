"""A model for each key in the engine: the same whenever the process dies, and whatever its store has lost."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record, SimulatedCrashError
from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.engine import checkpoint
from stream_moe.engine.checkpoint import files_named
from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.loop import IDLE_SECONDS, Engine, EngineSettings
from stream_moe.errors import CheckpointError
from stream_moe.models.keyed import segments
from stream_moe.models.keyed.factory import for_each_key
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.settings import KeySettings
from stream_moe.report import KeyReport, PartitionReport
from stream_moe.types import Block
from tests.unit.keyed import MODEL, SCHEMA, SMALL, Memory, keyed, make, stream

EVENTS, ROWS = 600, 100


def records(n_keys: int, late: int = 0) -> list[Record]:
    """Events with their labels; every third label comes as a record of its own, `late` events later."""
    x, y, keys = stream(EVENTS, n_keys)
    codec = JsonCodec(SCHEMA)
    placed: list[tuple[int, bytes, bytes]] = []
    for i, key in enumerate(keys):
        if late and i % 3 == 0 and y[i] >= 0:
            alone = Block(x[i : i + 1], y[i : i + 1], [f"e{i}"], np.zeros(1, np.bool_))
            placed.append((i, key, codec.encode_event(f"e{i}", x[i])))
            placed.append((i + late, b"another key", codec.encode_events(alone)[0]))
        else:
            placed.append((i, key, codec.encode_event(f"e{i}", x[i], int(y[i]))))
    placed.sort(key=lambda each: each[0])
    return [Record(value, key, t) for t, (_, key, value) in enumerate(placed)]


def engine(
    log: MemoryLog, store: Any, keys: KeySettings, every: int = 150, rows: int = ROWS, **options: Any
) -> Engine:
    return Engine(
        MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group"),
        lambda _: store,
        for_each_key(make, keys),
        EngineSettings(MODEL, block_rows=rows, checkpoint_events=every, keys=keys),
        schema=SCHEMA,
        **options,
    )


def filled(items: Sequence[Any]) -> MemoryLog:
    log = MemoryLog()
    log.extend("events", [*items, EOF])
    return log


def finish(log: MemoryLog, store: Any, keys: KeySettings, **options: int) -> tuple[str, list[bytes | None]]:
    one = engine(log, store, keys, **options)
    one.run()
    return one.tasks[0].learner.digest, [record.value for record in log.records("predictions")]


class AtOnce(threading.Thread):
    """A thread that does its work before `start` returns, so that a crash in it is one of the process."""

    def start(self) -> None:
        self.run()

    def join(self, timeout: float | None = None) -> None: ...

    def is_alive(self) -> bool:
        return False


def test_a_crash_at_any_act_upon_the_store_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "threading", SimpleNamespace(Thread=AtOnce))
    monkeypatch.setattr(segments, "GARBAGE_SECONDS", 0.0)
    items, keys = records(40)[:400], KeySettings(max_keys=20, memory_bytes=2 * SMALL)
    store = Memory()
    expected = finish(filled(items), store, keys)
    assert finish(filled(items), Memory(), KeySettings(max_keys=20)) == expected  # nothing leaves memory
    kinds = {name.rpartition(".")[2] for name in store.files}
    assert kinds == {"ckpt", "models"}
    assert store.acts > 20
    for done_first in (False, True):
        for dies_at in range(2 * store.acts):
            log, again = filled(items), Memory()
            again.dies_at, again.done_first = dies_at, done_first
            with contextlib.suppress(SimulatedCrashError):
                engine(log, again, keys).run()
            if not again.dead:  # how many models memory has room for, and so how often some leave, is measured
                assert dies_at > 20
                break
            again.dies_at = -1
            assert finish(log, again, keys) == expected, (dies_at, done_first)
            named = files_named(again)
            assert named <= again.files.keys()
            left = {name for name in again.files if name.endswith(".models")} - named
            assert not left, "garbage of the crash stays"


def test_late_labels_find_the_model_of_their_event(tmp_path: Path) -> None:
    items = records(12, late=70)  # a checkpoint at 150 has events that wait
    log = filled(items)

    def stop_midway(report: PartitionReport) -> None:
        if report.events_consumed > 300:
            died.stop()

    died = engine(log, FileCheckpointStore(tmp_path), KeySettings(memory_bytes=SMALL), on_report=stop_midway)
    died.run()
    found, _ = finish(log, FileCheckpointStore(tmp_path), KeySettings(memory_bytes=SMALL), rows=7)
    x, y, keys = stream(EVENTS, 12)
    rows = [(i + 70 if i % 3 == 0 and y[i] >= 0 else i, i) for i in range(EVENTS)]
    asked = [(i, i, -1) for due, i in rows if due > i]
    learnt = [(due, i, int(y[i])) for due, i in rows]
    order = sorted([*asked, *learnt], key=lambda each: each[0])
    chosen = [i for _, i, _ in order]
    embedded = keyed()
    embedded.step(x[chosen], np.array([label for _, _, label in order], np.int32), keys=[keys[i] for i in chosen])
    assert found == embedded.digest


@pytest.mark.parametrize("policy", ["shared", "dead-letter"])
def test_keys_that_are_none(policy: Any) -> None:
    value = JsonCodec(SCHEMA).encode_event("e", np.zeros(3, np.float32), 1)
    given = [None, b"", b"a", b"x" * 1024, b"x" * 1025, b"x" * (1 << 20)]
    log = filled([Record(value, key, t) for t, key in enumerate(given)])
    one = engine(log, Memory(), KeySettings(null_key=policy))
    one.run()
    reasons = [dict(letter.headers)["__streams.errors.exception"].decode() for letter in log.records("dead-letters")]
    refused = ["no-key", "no-key"] if policy == "dead-letter" else []
    assert reasons == [*refused, "key-too-large", "key-too-large"]
    learner = one.tasks[0].learner
    assert isinstance(learner, KeyedLearner)
    assert list(learner._index.slots) == [*([] if refused else [b""]), b"a", b"x" * 1024]
    answered = [json.loads(record.value or b"")["offset"] for record in log.records("predictions")]
    assert answered == [2, 3] if refused else [0, 1, 2, 3]


def test_a_key_in_each_event_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "GARBAGE_SECONDS", 0.0)
    value = JsonCodec(SCHEMA).encode_event("e", np.zeros(3, np.float32), 1)
    log = filled([Record(value, b"%d" % t, t) for t in range(3000)])
    reports: list[KeyReport] = []
    engine(
        log,
        store := Memory(),
        KeySettings(max_keys=100, memory_bytes=SMALL),
        on_report=lambda report: reports.append(report.keys or KeyReport()),
    ).run()
    assert max(report.known for report in reports) == 100
    assert (reports[-1].forgotten, reports[-1].evicted < 3000) == (2900, True)
    assert max(report.resident_bytes for report in reports) <= SMALL
    assert sum(map(len, store.files.values())) < 500_000


def test_a_store_without_the_files_that_a_checkpoint_names_is_refused() -> None:
    items, keys = records(40), KeySettings(memory_bytes=SMALL)
    log, store = filled(items), Memory()
    expected, _ = finish(log, store, keys)
    newest = max(name for name in store.files if name.endswith(".ckpt"))
    named = set(Checkpoint.from_bytes(store.files[newest]).files)
    older = [name for name in store.files if name.endswith(".ckpt") and name != newest]
    elsewhere = {name for old in older for name in Checkpoint.from_bytes(store.files[old]).files}
    lost = min(named - elsewhere)
    content = store.files.pop(lost)
    assert finish(log, store, keys)[0] == expected  # from the checkpoint before
    store.files = {newest: store.files[newest]}
    with pytest.raises(
        CheckpointError, match=rf"{newest}: names models in .*and \d+ more.*has no such file.*--state"
    ):
        engine(log, store, keys).run()
    assert content


def test_a_changed_file_is_refused_when_it_is_read() -> None:
    items, keys = records(40), KeySettings(memory_bytes=SMALL)
    log, store = filled(items), Memory()
    finish(log, store, keys)
    for name, content in store.files.items():
        if name.endswith(".models"):
            store.files[name] = content[:20] + bytes([content[20] ^ 1]) + content[21:]
    more = MemoryLog()
    more.extend("events", [*items, *items, EOF])
    more.commit("events", "group", 0, more.fence("events", "group"), EVENTS)
    with pytest.raises(
        CheckpointError,
        match=r"partition 0: the model of key '.+' in .*\.models is not the one that the check",
    ):
        engine(more, store, keys).run()


def test_another_way_to_give_models_is_another_owner() -> None:
    log, store = filled(records(5)), Memory()
    finish(log, store, KeySettings())
    with pytest.raises(CheckpointError, match="max_keys was 250000, is 7"):
        engine(log, store, KeySettings(max_keys=7)).run()


def test_a_turn_goes_on_with_one_checkpoint_of_the_partitions_without_a_block() -> None:
    one, told = engine(MemoryLog(), Memory(), KeySettings()), list[tuple[int, float]]()

    def waiting(partition: int) -> Any:
        return SimpleNamespace(saving=partition != 3, save=lambda seconds: told.append((partition, seconds)))

    one.tasks = {partition: waiting(partition) for partition in range(5)}
    for _ in range(4):
        one._save_one({2}, 0.5)
    assert told == [(0, 0.5), (1, 0.5), (4, 0.5), (0, 0.5)]
    one._save_one((), 0.0)
    assert told[-1] == (1, IDLE_SECONDS)
