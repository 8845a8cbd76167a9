"""Checkpoints through fsspec: in memory and on the local file system, and stores that fail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from connectors.files import FileCheckpointStore
from connectors.objects import ObjectCheckpointStore, found_checkpoints, open_store
from stream_moe.engine.loop import Engine
from stream_moe.errors import CheckpointError, ConfigError
from tests import golden


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path}/states"


def test_round_trip(url: str) -> None:
    store = ObjectCheckpointStore(f"{url}/group-events-0")
    assert store.names() == []
    for name, content in (("000010", b"new"), ("000002", b"old"), ("000002", b"older")):
        store.write(name, content)
    assert store.names() == ["000002", "000010"]
    assert (store.read("000002"), store.read("000010")) == (b"older", b"new")
    assert list(found_checkpoints(f"{url}/group-events-0/000010")) != []
    store.delete("000002")
    store.delete("000002")
    assert ObjectCheckpointStore(f"{url}/group-events-0").names() == ["000010"]
    with pytest.raises(CheckpointError, match="reading 000002 in"):
        store.read("000002")
    for name in ("../a", ".a", "a/b"):
        with pytest.raises(CheckpointError, match="checkpoint name"):
            store.write(name, b"x")


def test_parts_of_an_object(url: str) -> None:
    store = ObjectCheckpointStore(url)
    store.write("a.models", b"0123456789")
    assert store.read_parts("a.models", [(7, 10), (0, 2)]) == [b"789", b"01"]
    with pytest.raises(CheckpointError, match=r"reading a.models: cut off: of bytes 8 to 11 it has 2"):
        store.read_parts("a.models", [(0, 1), (8, 11)])
    with pytest.raises(CheckpointError, match=r"reading b.models in"):
        store.read_parts("b.models", [(0, 1)])


def test_an_engine_recovers_from_an_object_store(url: str) -> None:
    def run(until: int | None, committed: int | None) -> Engine:
        engine, _ = golden.engine(
            Path("unused"), until=until, committed=committed, store=open_store(url, "g-events-0")
        )
        engine.run()
        return engine

    run(golden.AT, None)
    assert len(found_checkpoints(url)) == 2  # of the beginning, and of the end
    after = run(None, golden.AT)
    assert after.tasks[0].learner.digest == golden.DIGEST
    assert after.tasks[0].recovery.replayed == 0


def test_a_torn_write_is_seen_and_the_one_before_is_used(url: str) -> None:
    store = ObjectCheckpointStore(f"{url}/g-events-0")
    golden.engine(Path("unused"), until=golden.AT, store=store)[0].run()
    *_, newest = found_checkpoints(url)
    name = newest.rsplit("/", 1)[-1]
    content = store.read(name)
    with fsspec.open(newest, "wb") as file:
        file.write(content[: len(content) // 2])
    engine, _ = golden.engine(Path("unused"), committed=golden.AT, store=store)
    engine.run()
    assert engine.tasks[0].learner.digest == golden.DIGEST
    assert engine.tasks[0].recovery.replayed == golden.AT


class Failing:
    """A file system that loses what it is given."""

    def __init__(self, fs: Any, **faults: Any) -> None:
        self._fs, self._faults = fs, faults

    def __getattr__(self, name: str) -> Any:
        return self._faults.get(name) or getattr(self._fs, name)


def test_a_store_that_fails_is_one_line(url: str) -> None:
    store = ObjectCheckpointStore(url)
    store.write("a", b"first")
    fs = store._fs

    def forbidden(*_: object, **__: object) -> None:
        raise RuntimeError("AccessDenied:\n no")  # clients have errors of their own

    store._fs = Failing(fs, cat_file=lambda path: b"something else")
    with pytest.raises(CheckpointError, match=r"writing b in .*does not read back the same"):
        store.write("b", b"x")
    store._fs = Failing(fs, pipe_file=forbidden, rm_file=forbidden, ls=forbidden)
    for call in (lambda: store.write("c", b"x"), lambda: store.delete("a"), store.names):
        with pytest.raises(CheckpointError, match="AccessDenied: no"):
            call()
    store._fs = fs
    assert store.names() == ["a"]
    assert store.read("a") == b"first"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense://x/y", "nonsense"),
        ("ftp://someone:hunter2@host/x", "a password in a URL"),
        ("file:///proc/nowhere/at/all", "No such file"),
    ],
)
def test_what_cannot_be_a_store(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        ObjectCheckpointStore(url)
    assert "hunter2" not in str(caught.value)


def test_without_fsspec_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"stream-moe\[objects\]"):
        open_store("s3://bucket/states", "g")
    for directory in (str(tmp_path), f"file://{tmp_path}"):  # needs none of it
        assert isinstance(open_store(directory, "g"), FileCheckpointStore)
    assert (tmp_path / "g").is_dir()
