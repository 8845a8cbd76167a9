"""Checkpoint files: old versions, every way a file can be bad, whose it is, and a disk that fails."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.files import FileCheckpointStore
from stream_moe.checkpoints import format as form
from stream_moe.checkpoints.checkpoint import Checkpoint, Owner
from stream_moe.checkpoints.migrations import MIGRATIONS
from stream_moe.engine.checkpoint import AHEAD, CheckpointWriter, generations, newest_usable
from stream_moe.errors import CheckpointError
from stream_moe.models.catalogue import build_model
from stream_moe.report import LabelCounts, PartitionReport
from stream_moe.types import Schema
from tests import golden
from tests.unit.test_engine import EVENTS, filled_log, make_engine, offsets

OURS = Owner("f", "group/events/0", {"seed": "1", "top_k": "3"})


def made(offset: int = 7, owner: Owner = OURS) -> Checkpoint:
    return Checkpoint(offset, owner, {"a": 1}, {"x": np.arange(5.0), "none": np.zeros((0, 4), np.int32)})


def sealed(body: bytes, version: int = form.VERSION) -> bytes:
    """Give bytes the frame that says they are whole."""
    head = form.MAGIC + version.to_bytes(4, "big")
    return head + hashlib.sha256((b"" if version == 1 else head) + body).digest() + body


def with_header(header: Any, data: bytes = bytes(40), size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return sealed((len(text) if size is None else size).to_bytes(8, "little") + text + data)


def entry(**changed: Any) -> dict[str, Any]:
    return {"x": {"dtype": "F64", "shape": [5], "data_offsets": [0, 40]} | changed}


# Versions


def test_every_version_that_ever_was_has_its_golden_file() -> None:
    found = sorted(path.name for path in golden.HERE.glob("*.ckpt"))
    assert found == [f"version-{version}.ckpt" for version in range(1, form.VERSION + 1)]
    assert set(MIGRATIONS) == set(range(1, form.VERSION))
    assert all(path.stat().st_size < 300_000 for path in golden.HERE.glob("*.ckpt"))


@pytest.mark.parametrize("version", range(1, form.VERSION + 1))
def test_a_golden_file_is_read_and_goes_on_learning_to_the_recorded_state(version: int, tmp_path: Path) -> None:
    shutil.copy(golden.HERE / f"version-{version}.ckpt", tmp_path / f"{golden.AT:020d}.ckpt")
    engine, log = golden.engine(tmp_path, committed=golden.AT)
    engine.run()
    assert engine.tasks[0].learner.digest == golden.DIGEST
    assert offsets(log)[0] >= golden.AT  # nothing before it was read again
    newest = Checkpoint.from_bytes(max(tmp_path.glob("*.ckpt")).read_bytes())
    assert newest.version == form.VERSION
    assert newest.owner.source == "golden/events/0"
    late = -(-golden.EVENTS // 5)  # every fifth label comes on its own
    assert engine.tasks[0].learnt.join.counts == LabelCounts(received=golden.EVENTS, applied=golden.EVENTS)
    assert engine.tasks[0].learnt.join._done.keys() == {str(i) for i in range(0, 5 * late, 5)}


@pytest.mark.parametrize("name", golden.MIXTURES)
def test_a_checkpoint_of_a_mixture_from_before_it_was_renamed_is_continued(name: str, tmp_path: Path) -> None:
    mixture = golden.MIXTURES[name]
    (tmp_path / f"{golden.AT:020d}.ckpt").write_bytes(golden.kept(f"version-5-{name}.ckpt"))
    engine, log = golden.engine(tmp_path, committed=golden.AT, model=mixture.model, options=mixture.options)
    engine.run()
    assert engine.tasks[0].learner.digest == mixture.digest
    assert offsets(log)[0] >= golden.AT  # nothing before it was read again


@pytest.mark.parametrize("version", range(7, form.VERSION + 1))
def test_a_checkpoint_of_counted_values_is_continued(version: int, tmp_path: Path) -> None:
    content = golden.kept(f"version-{version}-adaptive-tree.ckpt")
    assert Checkpoint.from_bytes(content).arrays["learner/expert/fore/width"].any()
    (tmp_path / f"{golden.AT:020d}.ckpt").write_bytes(content)
    engine, log = golden.engine(tmp_path, committed=golden.AT, model="adaptive-tree")
    engine.run()
    assert engine.tasks[0].learner.digest == golden.COUNTED
    assert offsets(log)[0] >= golden.AT


def test_trees_of_format_3_get_an_empty_archive() -> None:
    schema = Schema.numeric(4, ["no", "yes"])
    rng = np.random.default_rng(1)
    x, y = rng.random((3000, 4), dtype=np.float32), rng.integers(0, 2, 3000).astype(np.int32)
    model, other = (build_model("driftmoe", schema, options={"trees": "2"}) for _ in range(2))
    model.step(x, y)
    arrays, plain = model.snapshot()
    for tree in ("0", "1"):
        del plain["experts"][tree]["recent"], plain["experts"][tree]["counts"]["returns"]
    recent = {name: array for name, array in arrays.items() if "/recent/" in name}
    assert len(recent) == 4
    kept = {name: array for name, array in arrays.items() if name not in recent}
    state, migrated = MIGRATIONS[3]({"plain": plain}, kept)
    assert migrated.keys() == arrays.keys()
    other.restore((migrated, state["plain"]))
    assert other.report().experts[0].returns == 0
    assert np.isfinite(other.step(x, y)).all()


def test_experts_of_format_2_that_never_slept_are_awake() -> None:
    schema = Schema.numeric(4, ["no", "yes"])
    rng = np.random.default_rng(1)
    x, y = rng.random((1000, 4), dtype=np.float32), rng.integers(0, 2, 1000).astype(np.int32)
    model, other = (build_model("driftmoe", schema, options={"trees": "2"}) for _ in range(2))
    model.step(x, y)
    arrays, plain = model.snapshot()
    del plain["sleep"]
    kept = {f"learner/{name}": array for name, array in arrays.items() if not name.startswith("sleep/")}
    join = {"events": [], "labels": [], "joined": [], "counts": [0, 0, 0, 0]}
    state, migrated = MIGRATIONS[2]({"plain": {"learner": plain, "join": join, "counts": {}}}, kept)
    assert {name.removeprefix("learner/") for name in migrated} == arrays.keys()
    other.restore(({name.removeprefix("learner/"): a for name, a in migrated.items()}, state["plain"]["learner"]))
    assert not any(expert.asleep for expert in other.report().experts)
    assert np.isfinite(other.step(x, y)).all()


def test_a_newer_file_is_refused_and_not_skipped(tmp_path: Path) -> None:
    store = FileCheckpointStore(tmp_path)
    store.write(f"{5:020d}.ckpt", made(5).to_bytes())
    store.write(f"{7:020d}.ckpt", sealed(b"what a later program knows", form.VERSION + 1))
    with pytest.raises(CheckpointError, match=rf"version {form.VERSION + 1}, and this program reads up to"):
        newest_usable(store, OURS, 10)
    flipped = bytearray(made(7).to_bytes())
    flipped[7] ^= 4  # the version's own bits: damage, not a newer program
    store.write(f"{7:020d}.ckpt", bytes(flipped))
    found = newest_usable(store, OURS, 10)
    assert found is not None
    assert found.offset == 5


# Bad files

WHOLE = [
    (with_header(b"{}", size=4 << 30), "a header of 4,294,967,296 bytes"),
    (with_header(b"{}", size=2**64 - 1), "a header of 18,446,744,073,709,551,615 bytes"),
    (with_header(b"[1]"), "no JSON object"),
    (with_header(b"{" * 30), "JSONDecodeError"),
    (with_header(b"[" * 200_000), "RecursionError"),
    (with_header(b'{"\xff": 1}'), "UnicodeDecodeError"),
    (with_header({"x": 3}), "array 'x' is 3"),
    (with_header(entry(dtype="OBJECT")), "its type is none of"),
    (with_header(entry(dtype=["F64"])), "unhashable"),
    (with_header(entry(dtype="F32")), r"takes 20 bytes, and holds 40"),
    (with_header(entry(shape=[10**12])), "takes 8,000,000,000,000 bytes, and holds 40"),
    (with_header(entry(shape=[2**31, 2**33])), "and holds 40"),
    (with_header(entry(shape=[-5])), r"has the shape \[-5\]"),
    (with_header(entry(shape=[0, 2**62])), "has the shape"),
    (with_header(entry(shape=[1] * 60)), "has the shape"),
    (with_header(entry(shape=[5.0])), "has the shape"),
    (with_header(entry(shape="5")), "has the shape"),
    (with_header(entry(shape=[True, 5])), "has the shape"),
    (with_header(entry(data_offsets=[40, 0])), "lies at"),
    (with_header(entry(data_offsets=[0])), "lies at"),
    (with_header(entry(data_offsets=[8, 48])), "begins at byte 8"),
    (with_header(entry(shape=[6], data_offsets=[0, 48])), "ends at byte 48 of 40"),
    (with_header(entry(), bytes(48)), "8 bytes belong to no array"),
    (with_header({name: entry()["x"] for name in "xy"}), "begins at byte 0, the one before it ended at 40"),
    (with_header(entry(dtype="BOOL", shape=[40]), b"\2" * 40), "truth values"),
    (with_header(entry()), "KeyError: 'state.json'"),
    (form.encode({}, {}), "KeyError: 'offset'|KeyError: 'fingerprint'"),
    (form.encode({"offset": -1, "fingerprint": "f", "source": "", "parameters": {}, "plain": {}}, {}), "int should"),
    (form.encode({"offset": 1, "fingerprint": "f", "source": "", "parameters": {}, "plain": []}, {}), "dict should"),
    (sealed(b"", 0), "never was"),
    (b"", "empty"),
    (b"SMO", "cut off"),
    (b"PK\3\4 something else", "not a checkpoint"),
    (made().to_bytes()[:-1], "sha256 does not fit"),
]


@pytest.mark.parametrize(("content", "why"), WHOLE, ids=[why[:25] for _, why in WHOLE])
def test_a_bad_file_says_why_and_takes_no_memory(content: bytes, why: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=why) as caught:
            Checkpoint.from_bytes(content, "it.ckpt")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith("it.ckpt: ")
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    body = bytearray(made().to_bytes()[40:])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        body = body or bytearray(1)
    for content in (bytes(body), sealed(bytes(body)), sealed(bytes(body), 1)):
        try:
            found = Checkpoint.from_bytes(content)
        except CheckpointError:
            continue
        assert sum(array.nbytes for array in found.arrays.values()) <= len(content)


def test_ids_that_wait_may_be_many() -> None:
    """What a safetensors header cannot hold (100 MB) is written, and read back."""
    plain = {"ids": ["x" * 1000] * 110_000}
    assert Checkpoint.from_bytes(Checkpoint(1, OURS, plain, {}).to_bytes()).plain == plain


def test_a_whole_file_with_the_state_of_something_else_is_one_line(tmp_path: Path) -> None:
    engine, _ = golden.engine(tmp_path, committed=golden.AT)
    found = Checkpoint.from_bytes((golden.HERE / "version-2.ckpt").read_bytes())
    for name, array in {
        "learner/expert/child": found.arrays["learner/expert/child"] + 1_000_000,
        "learner/expert/slot": found.arrays["learner/expert/slot"] * 0 - 1,
        "learner/expert/head": found.arrays["learner/expert/head"] + np.array([0, 0, 0, 2**20, 0]),
        "learner/expert/mass": np.zeros((1, 2)),
        "learner/monitor/filled": found.arrays["learner/monitor/filled"] + 1000,
        "learner/specialization/sums": np.zeros(1),
        "quality/counts": np.zeros(9, np.int64),
        "join/x": np.zeros((40, 2), np.float32),
    }.items():
        broken = Checkpoint(golden.AT, found.owner, found.plain, found.arrays | {name: array})
        (tmp_path / f"{golden.AT:020d}.ckpt").write_bytes(broken.to_bytes())
        with pytest.raises(CheckpointError):
            engine.run()


def test_a_state_that_nothing_can_be_made_of_is_passed_over_for_an_older_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = filled_log()
    make_engine(log, tmp_path, every=500).run()
    expected = make_engine(log, tmp_path)
    expected.run()
    newest = sorted(tmp_path.glob("*.ckpt"))[-1]
    found = Checkpoint.from_bytes(newest.read_bytes())
    waiting = {"learner/monitor/waiting": np.full_like(found.arrays["learner/monitor/waiting"], 10**9)}
    newest.write_bytes(Checkpoint(found.offset, found.owner, found.plain, found.arrays | waiting).to_bytes())
    again = make_engine(log, tmp_path)
    again.run()
    assert again.tasks[0].learner.digest == expected.tasks[0].learner.digest
    assert (
        f"partition 0: skipping a checkpoint that no state can be made of: {newest.name}: drift monitor"
        in caplog.text
    )
    assert offsets(log) == list(range(EVENTS))


def test_damaged_checkpoints_do_not_push_out_the_only_whole_one(tmp_path: Path) -> None:
    store = FileCheckpointStore(tmp_path)
    whole, *damaged = (f"{offset:020d}.ckpt" for offset in (1, 2, 3, 4))
    for offset, name in enumerate((whole, *damaged), 1):
        content = Checkpoint(offset, OURS, {}, {}).to_bytes()
        store.write(name, content if name == whole else content[:-1])
    written = []
    for offset in (5, 6, 7):
        writer = CheckpointWriter(store)  # of a process that ends after it
        writer.write(Checkpoint(offset, OURS, {}, {}))
        writer.wait()
        written.append(f"{offset:020d}.ckpt")
        assert {whole, *written} <= set(generations(store)) or offset == 7
    assert generations(store) == written


def test_a_checkpoint_that_could_not_be_restored_does_not_count(tmp_path: Path) -> None:
    store, writer = FileCheckpointStore(tmp_path), CheckpointWriter(FileCheckpointStore(tmp_path))
    for offset in (1, 2):
        store.write(f"{offset:020d}.ckpt", Checkpoint(offset, OURS, {}, {}).to_bytes())
    writer.refuse(f"{2:020d}.ckpt")
    for offset in (3, 4):
        writer.write(Checkpoint(offset, OURS, {}, {}))
        writer.wait()
    assert len(generations(store)) == 4


# Whose it is


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Owner("f", "group/events/1", OURS.parameters), "made for group/events/1 .*, and this is group/events/0"),
        (Owner("f", "group/clicks/0", OURS.parameters), "made for group/clicks/0"),
        (Owner("f", "others/events/0", OURS.parameters), "made for others/events/0"),
        (Owner("g", "group/events/0", {"seed": "2", "top_k": "3"}), r"setting \(seed was 2, is 1\)"),
        (Owner("g"), "another model, schema or setting; run"),
    ],
)
def test_a_checkpoint_of_another_is_refused_by_name(tmp_path: Path, other: Owner, said: str) -> None:
    store = FileCheckpointStore(tmp_path)
    store.write(f"{7:020d}.ckpt", made(owner=other).to_bytes())
    with pytest.raises(CheckpointError, match=said):
        newest_usable(store, OURS, 10)


def test_what_is_ahead_is_set_aside_and_never_used_later(tmp_path: Path) -> None:
    log = filled_log()
    make_engine(log, tmp_path).run()
    before = [path.read_bytes() for path in sorted(tmp_path.glob("*.ckpt"))]
    anew = filled_log()  # the topic was made anew: nothing is committed
    make_engine(anew, tmp_path, every=100).run()
    store = FileCheckpointStore(tmp_path)
    assert [store.read(name) for name in store.names() if name.startswith(AHEAD)] == before
    assert len(generations(store)) == 3
    assert offsets(anew) == list(range(EVENTS))


def test_other_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "zz-notes.txt").write_text("mine")
    (tmp_path / "00.ckpt").write_text("mine too")
    make_engine(filled_log(), tmp_path).run()
    assert len(list(tmp_path.iterdir())) == 5
    assert (tmp_path / "zz-notes.txt").read_text() == "mine"


# A disk that fails


@pytest.mark.parametrize("fault", ["limit", "read-only", "missing"])
def test_the_run_goes_on_without_its_disk(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_engine(filled_log(), tmp_path / "before").run()  # what is compiled is written to disk as well
    log, limits = filled_log(), resource.getrlimit(resource.RLIMIT_FSIZE)

    def break_it() -> None:
        if fault == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        elif fault == "missing":
            shutil.rmtree(tmp_path / "state", ignore_errors=True)
        else:
            monkeypatch.setattr(os, "open", read_only)

    def read_only(*_: object, **__: object) -> int:
        raise OSError(30, "read-only")

    failures = 0

    def on_report(report: PartitionReport) -> None:
        nonlocal failures
        failures = sum(report.checkpoint_failures.values())
        assert report.checkpoint_failures.keys() <= {"space" if fault == "limit" else "access"}
        break_it()

    engine = make_engine(log, tmp_path / "state", on_report=on_report)
    try:
        engine.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
    assert offsets(log) == list(range(EVENTS))
    assert failures >= 1
    after = make_engine(log, tmp_path / "state")  # the log makes up for what was not written
    after.run()
    assert after.tasks[0].learner.digest == engine.tasks[0].learner.digest
    assert "checkpoint" in caplog.text
    assert "failed" in caplog.text


def test_the_run_goes_on_with_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        log = filled_log()
        engine = make_engine(log, tmp_path / "state")
        engine.run()
        assert offsets(log) == list(range(EVENTS))
        assert engine.tasks[0]._writer.failures["space"] >= 1
        assert "the disk is full; make room" in caplog.text
        assert list((tmp_path / "state").iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=False)
