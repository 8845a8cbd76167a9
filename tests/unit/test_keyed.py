"""A model for each key: equal to models on their own, wherever they are."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_moe.errors import CheckpointError, ConfigError, DataError
from stream_moe.models.keyed import barrier, segments
from stream_moe.models.keyed.barrier import Barrier
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.memory import KeyMemory
from stream_moe.models.published.data import DriftMoEData
from stream_moe.types import Feature, Schema
from tests.unit.keyed import LABELS, SCHEMA, SMALL, Memory, keyed, make, one_by_one, stream


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


def test_the_experts_of_a_key_have_no_executor_of_their_own() -> None:
    with pytest.raises(ConfigError, match="leave it at threads"):
        KeyedLearner(SCHEMA, make=lambda schema: DriftMoEData(schema, executor="processes", shards=1))


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
