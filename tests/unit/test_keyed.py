"""A model for each key: equal to models on their own, wherever they are, whenever the process dies."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.files import FileCheckpointStore, check_parts
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record, SimulatedCrashError
from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.engine import checkpoint
from stream_moe.engine.checkpoint import segments_named
from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.loop import IDLE_SECONDS, Engine, EngineSettings
from stream_moe.errors import CheckpointError, ConfigError, DataError
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed import barrier, segments
from stream_moe.models.keyed.barrier import Barrier
from stream_moe.models.keyed.factory import for_each_key
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.memory import KeyMemory
from stream_moe.models.keyed.record import digest, to_bytes
from stream_moe.models.keyed.settings import KeySettings
from stream_moe.models.published.moe import DriftMoEData
from stream_moe.ports import CheckpointStore
from stream_moe.report import KeyReport
from stream_moe.types import Block, Feature, Float64, Int32, Schema

SCHEMA = Schema.numeric(3, ["no", "yes"])
MODEL = "naive-bayes"
LABELS = np.array([0, 1, 1], np.int32)
SMALL = 60_000  # bytes: room for a handful of models


def make(schema: Schema) -> BlockClassifier:
    return build_model(MODEL, schema)


def keyed(store: CheckpointStore | None = None, **options: Any) -> KeyedLearner:
    learner = KeyedLearner(SCHEMA, make=make, **options)
    if store is not None:
        learner.attach(store)
    return learner


def stream(n: int, n_keys: int, seed: int = 1) -> tuple[Any, Int32, list[bytes]]:
    """Rows whose label depends on the key, a tenth without one; some keys are far more frequent than others."""
    rng = np.random.default_rng(seed)
    key = rng.zipf(1.4, n) % n_keys
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = ((x[:, 0] > 0) ^ (key % 2 == 0)).astype(np.int32)
    y[rng.random(n) < 0.1] = -1
    return x, y, [b"k%d" % k for k in key]


def one_by_one(x: Any, y: Int32, keys: list[bytes], max_keys: int) -> tuple[Float64, dict[bytes, bytes]]:
    """Do what a keyed learner says it does, event by event, with a dictionary of models."""
    models: OrderedDict[bytes, BlockClassifier] = OrderedDict()
    proba = np.empty((len(x), 2))
    for t, key in enumerate(keys):
        model = models.get(key) or make(SCHEMA)
        proba[t] = model.step(x[t : t + 1], y[t : t + 1])[0]
        if y[t] >= 0:
            models[key] = model
            models.move_to_end(key)
            if len(models) > max_keys:
                models.popitem(last=False)
    return proba, {key: digest(to_bytes(model.snapshot())) for key, model in models.items()}


class Memory:
    """A `CheckpointStore` whose writes and deletions can be made the process's last act."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.acts, self.dies_at, self.done_first = 0, -1, False

    @property
    def dead(self) -> bool:
        return self.acts > self.dies_at >= 0

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise CheckpointError(f"{name}: not there")
        return self.files[name]

    def read_parts(self, name: str, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        content = self.read(name)
        found = [content[begin:end] for begin, end in parts]
        check_parts(name, parts, found)
        return found

    def write(self, name: str, content: bytes) -> None:
        self._act(lambda: self.files.update({name: content}))

    def delete(self, name: str) -> None:
        self._act(lambda: self.files.pop(name, None))

    def _act(self, act: Any) -> None:
        last = self.acts == self.dies_at
        self.acts += 1
        if self.done_first or not self.dead:
            act()
        if last or self.dead:
            raise SimulatedCrashError(f"act {self.acts - 1}")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    n_keys=st.integers(1, 40),
    max_keys=st.integers(1, 45),
    cuts=st.lists(st.integers(1, 299), max_size=6),
    restarts=st.sets(st.integers(0, 6)),
)
def test_as_if_each_key_had_its_own_learner(
    seed: int, n_keys: int, max_keys: int, cuts: list[int], restarts: set[int]
) -> None:
    x, y, keys = stream(300, n_keys, seed)
    expected, models = one_by_one(x, y, keys, max_keys)
    store = Memory()
    learner = keyed(store=store, max_keys=max_keys, memory=KeyMemory(SMALL))
    found = []
    places = [0, *sorted(cuts), 300]
    for number, (start, stop) in enumerate(pairwise(places)):
        part = slice(start, stop)
        found.append(learner.step(x[part], y[part], keys=keys[part]))
        if number in restarts:
            kept, before = learner.snapshot(), learner.digest
            learner.files.flush(kept[1]["keys"]["segments"])
            learner = keyed(store=store, max_keys=max_keys, memory=KeyMemory(SMALL))
            learner.restore(kept)
            assert learner.digest == before
    assert np.array_equal(np.concatenate(found), expected)
    whole = keyed(max_keys=max_keys)
    whole.step(x, y, keys=keys)
    assert learner.digest == whole.digest
    arrays = whole.snapshot()[0]
    assert {k: arrays["keys/digest"][i].tobytes() for i, k in enumerate(whole._index.slots)} == models
    assert list(whole._index.slots) == list(models)


def test_what_memory_holds_is_bounded_and_the_rest_is_read_back() -> None:
    x, y, keys = stream(4000, 500)
    learner = keyed(store=Memory(), memory=KeyMemory(SMALL))
    for start in range(0, 4000, 100):
        part = slice(start, start + 100)
        learner.step(x[part], y[part], keys=keys[part])
        assert learner.keys.resident_bytes <= SMALL
    told = learner.keys
    assert told.known > 300 > told.resident
    assert told.evicted > 300
    assert told.loaded > 100
    assert told.evicted == told.known + told.loaded - told.resident


def test_old_segments_are_copied_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "GARBAGE_SECONDS", 0.0)
    x, y, keys = stream(6_000, 300)
    store = Memory()
    learner = keyed(store=store, memory=KeyMemory(SMALL))
    for start in range(0, 6_000, 100):
        part = slice(start, start + 100)
        learner.step(x[part], y[part], keys=keys[part])
        _, plain = learner.snapshot()
        learner.files.flush(plain["keys"]["segments"])
        learner.files.collect(plain["keys"]["segments"])
        assert store.files.keys() == set(plain["keys"]["segments"])
    used = sum(len(content) for content in store.files.values())
    assert used < 2.5 * learner._index.length[list(learner._index.slots.values())].sum()
    assert len(store.files) <= 65


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 999),
    n_keys=st.integers(1, 60),
    max_keys=st.integers(1, 45),
    rows=st.integers(1, 60),
    acts=st.lists(st.sampled_from(["step", "step", "begin", "write", "flush"]), min_size=4, max_size=25),
    bounded=st.booleans(),
)
def test_a_snapshot_is_of_its_moment_however_late_its_models_are_written(
    seed: int, n_keys: int, max_keys: int, rows: int, acts: list[str], bounded: bool
) -> None:
    x, y, keys = stream(60 * 27, n_keys, seed)
    store = Memory() if bounded else None
    learner, whole = (keyed(store=given, max_keys=max_keys, memory=KeyMemory(SMALL)) for given in (store, None))
    begun: list[tuple[Barrier, str]] = []

    def check() -> None:
        begins, expected = begun[0]
        if (found := begins.advance(0.0)) is not None:
            begun.pop(0)
            if store is not None:
                learner.files.flush(found[1]["keys"]["segments"])
            fresh = keyed(store=store, max_keys=max_keys, memory=KeyMemory(SMALL))
            fresh.restore(found)
            assert fresh.digest == expected
            assert all(fresh._lent(key) is not None for key in fresh._index.slots)

    place = 0
    for act in [*acts, "step", *["write"] * 90]:
        if act == "step":
            part = slice(place, place := place + rows)
            found = learner.step(x[part], y[part], keys=keys[part])
            assert np.array_equal(found, whole.step(x[part], y[part], keys=keys[part]))
        elif act == "begin":
            with mock.patch.object(barrier, "TOGETHER", 2):  # which groups the rows
                begun.append((learner.begin_snapshot(), whole.digest))
            if begun[1:]:
                check()  # it was completed by the next
        elif act == "flush" and store is not None:
            learner.files.flush(())  # of a checkpoint before
        elif begun:
            check()
    assert learner.digest == whole.digest
    assert not begun
    live = {number for number in learner.files.names if learner._index.live[number]}
    assert set(learner._index.segment[list(learner._index.slots.values())].tolist()) - {-1} <= live


def test_a_block_writes_no_model_for_a_checkpoint_that_it_does_not_touch() -> None:
    x, y, keys = stream(4000, 300)
    learner = keyed(store=Memory())
    learner.step(x, y, keys=keys)
    begun = learner.begin_snapshot()
    due = len(begun.due)
    assert due > 200
    learner.step(x[:50], y[:50], keys=keys[:50])
    learnt = {key for key, label in zip(keys[:50], y, strict=False) if label >= 0}
    assert len(begun.due) == due - len(learnt)
    assert begun.advance(0.0) is None
    assert len(begun.due) == due - len(learnt) - 1


def test_partitions_share_the_memory_for_their_models() -> None:
    x, y, keys = stream(4000, 500)
    memory = KeyMemory(2 * SMALL)
    quiet, busy = (keyed(store=Memory(), memory=memory) for _ in range(2))
    quiet.step(x[:200], y[:200], keys=keys[:200])
    at_first = quiet.keys.resident
    for start in range(0, 4000, 100):
        part = slice(start, start + 100)
        busy.step(x[part], y[part], keys=keys[part])
        assert quiet.keys.resident_bytes + busy.keys.resident_bytes == memory.bytes <= 2 * SMALL
    assert at_first > 5
    assert quiet.keys.resident == 0  # those used longest ago left, whosever they were
    before = busy.keys.resident
    quiet.step(x[:100], y[:100], keys=keys[:100])
    assert quiet.keys.loaded > 5
    assert busy.keys.resident < before
    alone = [keyed() for _ in range(2)]
    for learner, parts in zip(alone, ([slice(200), slice(100)], [slice(4000)]), strict=True):
        for part in parts:
            learner.step(x[part], y[part], keys=keys[part])
    assert [quiet.digest, busy.digest] == [learner.digest for learner in alone]
    del busy
    assert memory.bytes == quiet.keys.resident_bytes  # a partition that is gone takes nothing


def test_keys_may_come_from_a_feature() -> None:
    schema = Schema((Feature("shop", ("north", "south")), Feature("amount")), ("no", "yes"))
    x = np.array([[0, 2.5], [1, 2.5], [np.nan, 1]], np.float32)
    learner = KeyedLearner(schema, make=make, key_feature="shop")
    learner.step(x, LABELS)
    assert list(learner._index.slots) == [b"north", b"south", b""]
    assert learner.predict_many(x).tolist() == [0, 1, 1]
    learner = KeyedLearner(schema, make=make, key_feature="amount")
    learner.step(x, LABELS)
    assert list(learner._index.slots) == [b"2.5", b"1"]
    with pytest.raises(ConfigError, match="no feature 'town'; choose one of shop, amount"):
        KeyedLearner(schema, make=make, key_feature="town")
    with pytest.raises(DataError, match="keys: 1 for 3 rows"):
        learner.step(x, LABELS, keys=[b"a"])


def test_the_experts_of_a_key_have_no_home_of_their_own() -> None:
    with pytest.raises(ConfigError, match="leave it at threads"):
        KeyedLearner(SCHEMA, make=lambda schema: DriftMoEData(schema, executor="processes", shards=1))


# The engine

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


def engine(log: MemoryLog, store: Any, keys: KeySettings, every: int = 150, rows: int = ROWS) -> Engine:
    return Engine(
        MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group"),
        lambda _: store,
        for_each_key(make, keys),
        EngineSettings(MODEL, block_rows=rows, checkpoint_events=every, keys=keys),
        schema=SCHEMA,
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
            named = segments_named(again)
            assert named <= again.files.keys()
            left = {name for name in again.files if name.endswith(".models")} - named
            assert not left, "garbage of the crash stays"


def test_late_labels_find_the_model_of_their_event(tmp_path: Path) -> None:
    items = records(12, late=70)  # a checkpoint at 150 has events that wait
    log = filled(items)
    died = engine(log, FileCheckpointStore(tmp_path), KeySettings(memory_bytes=SMALL))
    died._on_report = lambda report: died.stop() if report.events_consumed > 300 else None
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
    one, told = engine(log, store := Memory(), KeySettings(max_keys=100, memory_bytes=SMALL)), list[KeyReport]()
    one._on_report = lambda report: told.append(report.keys or KeyReport())
    one.run()
    assert max(report.known for report in told) == 100
    assert (told[-1].forgotten, told[-1].evicted < 3000) == (2900, True)
    assert max(report.resident_bytes for report in told) <= SMALL
    assert sum(map(len, store.files.values())) < 500_000


def test_a_store_without_the_files_that_a_checkpoint_names_is_refused() -> None:
    items, keys = records(40), KeySettings(memory_bytes=SMALL)
    log, store = filled(items), Memory()
    expected, _ = finish(log, store, keys)
    newest = max(name for name in store.files if name.endswith(".ckpt"))
    named = set(Checkpoint.from_bytes(store.files[newest]).segments)
    older = [name for name in store.files if name.endswith(".ckpt") and name != newest]
    elsewhere = {name for old in older for name in Checkpoint.from_bytes(store.files[old]).segments}
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
        CheckpointError, match=r"a key's model in .*\.models is not the one that the checkpoint names"
    ):
        engine(more, store, keys).run()


def test_another_way_to_give_models_is_another_owner() -> None:
    log, store = filled(records(5)), Memory()
    finish(log, store, KeySettings())
    with pytest.raises(CheckpointError, match="max_keys was 250000, is 7"):
        engine(log, store, KeySettings(max_keys=7)).run()


def test_a_file_that_was_cut_off_is_not_copied(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(segments, "GARBAGE_SECONDS", 0.0)
    monkeypatch.setattr(barrier, "TOGETHER", 2)
    x, y, keys = stream(2000, 60)
    store = Memory()
    learner = keyed(store=store)
    learner.step(x, y, keys=keys)
    learner.files.flush(learner.snapshot()[1]["keys"]["segments"])
    (first,) = store.files
    store.files[first] = store.files[first][:5]
    most = [key for key in dict.fromkeys(keys) if key != keys[0]][:50]
    rows = np.array([keys.index(key) for key in most])
    learner.step(x[rows], np.abs(y[rows]), keys=most)
    learner.snapshot()  # most of the file is dead now,
    kept = learner.snapshot()  # and its rest is to be copied
    assert first in kept[1]["keys"]["segments"]
    assert sum("cut off" in each.getMessage() for each in caplog.records) == 1  # not one for each group of models
    assert len(learner._index.slots) > 55
    learner.files.flush(kept[1]["keys"]["segments"])
    fresh = keyed(store=store)
    fresh.restore(kept)
    for key in most:
        fresh._lent(key)
    with pytest.raises(CheckpointError, match=r"reading 0.*\.models: cut off: of bytes .* restore"):
        fresh._lent(keys[0])


def test_models_of_checkpoints_that_could_not_be_written_do_not_pile_up() -> None:
    x, y, keys = stream(6000, 100)
    learner = keyed(store=Memory())
    for start in range(0, 6000, 200):
        part = slice(start, start + 200)
        learner.step(x[part], y[part], keys=keys[part])
        named = learner.snapshot()[1]["keys"]["segments"]
        learner.files.flush(())  # and the disk is full
    assert len(learner.files._waiting) == len(named) < 5
    assert learner.files._secret == set()


def test_a_snapshot_without_a_store_holds_the_models_of_its_keys_alone() -> None:
    x, y, keys = stream(6000, 100)
    learner = keyed()
    sizes = []
    for start in range(0, 6000, 200):
        part = slice(start, start + 200)
        learner.step(x[part], y[part], keys=keys[part])
        arrays, plain = learner.snapshot()
        assert {name for name in arrays if name.startswith("models/")} == {
            f"models/{name}" for name in plain["keys"]["segments"]
        }
        sizes.append(sum(array.nbytes for array in arrays.values()))
    assert sizes[-1] < 3 * sizes[5]


def test_models_that_did_not_change_leave_memory_without_a_trace() -> None:
    x, y, keys = stream(4000, 500)
    learner = keyed(store=Memory(), memory=KeyMemory(SMALL))
    learner.step(x, y, keys=keys)
    learner.snapshot()
    secret = len(learner.files._secret)
    for start in range(0, 4000, 100):
        part = slice(start, start + 100)
        learner.step(x[part], np.full(100, -1, np.int32), keys=keys[part])
    assert learner.keys.loaded > 500
    assert len(learner.files._secret) <= secret + 1


def test_a_barrier_of_a_state_that_is_gone_gives_nothing() -> None:
    x, y, keys = stream(500, 100)
    learner = keyed()
    learner.step(x, y, keys=keys)
    before = learner.snapshot()
    learner.step(x, y, keys=keys)
    begun = learner.begin_snapshot()
    learner.restore(before)
    assert begun.advance(1.0) is None
    learner.step(x, y, keys=keys)
    learner.snapshot()


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
