from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from connectors.files import FileCheckpointStore
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.ports import CheckpointStore


@pytest.fixture
def store(tmp_path: Path) -> FileCheckpointStore:
    return FileCheckpointStore(tmp_path / "a" / "checkpoints")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_round_trip(store: FileCheckpointStore) -> None:
    port: CheckpointStore = store
    for name, content in (("000010", b"new"), ("000002", b"old"), ("000002", b"older")):
        port.write(name, content)
    assert port.names() == ["000002", "000010"]
    assert (port.read("000002"), port.read("000010")) == (b"older", b"new")
    port.delete("000002")
    port.delete("000002")
    assert port.names() == ["000010"]
    assert FileCheckpointStore(store.directory).names() == ["000010"]


def test_parts_of_a_file(store: FileCheckpointStore) -> None:
    store.write("a.models", b"0123456789")
    assert store.read_parts("a.models", [(7, 10), (0, 2), (4, 4)]) == [b"789", b"01", b""]
    with pytest.raises(CheckpointError, match=r"reading a.models: cut off: of bytes 8 to 11 it has 2"):
        store.read_parts("a.models", [(0, 1), (8, 11)])
    with pytest.raises(CheckpointError, match=r"reading b.models in .*: it does not exist"):
        store.read_parts("b.models", [(0, 1)])


def test_only_the_owner_may_look(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = os.umask(0)
    try:
        store = FileCheckpointStore(tmp_path / "new")
        store.write("a", b"x")
        assert (mode(store.directory), mode(store.directory / "a")) == (0o700, 0o600)
        assert caplog.text == ""
        (tmp_path / "wide").mkdir(mode=0o775)
        wide = FileCheckpointStore(tmp_path / "wide")
        wide.write("a", b"x")
    finally:
        os.umask(before)
    assert (mode(wide.directory), mode(wide.directory / "a")) == (
        0o775,
        0o600,
    )  # a folder of others stays as it is
    assert "other users may list" in caplog.text


def test_what_a_dead_writer_left_is_ignored_and_removed(store: FileCheckpointStore) -> None:
    store.write("a", b"x")
    left = store.directory / ".tmp-b"
    left.write_bytes(b"half")
    (store.directory / "folder").mkdir()
    assert store.names() == ["a"]
    assert FileCheckpointStore(store.directory).names() == ["a"]
    assert left.exists()  # somebody may be writing it
    os.utime(left, (0, 0))
    store.write("a", b"y")
    assert not left.exists()
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert FileCheckpointStore(store.directory).names() == ["a"]
    assert not left.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", ".hidden", "a\n", "ä", "a" * 300])
def test_names_that_could_leave_the_directory(store: FileCheckpointStore, name: str) -> None:
    for call in (store.read, store.delete, lambda name: store.write(name, b"")):
        with pytest.raises(CheckpointError, match="checkpoint name"):
            call(name)


@pytest.mark.parametrize(
    ("step", "number", "message"),
    [
        ("fsync", errno.ENOSPC, "the disk is full"),
        ("fsync", errno.EIO, "error"),
        ("open", errno.EROFS, "read-only"),
        ("rename", errno.EDQUOT, "quota"),
    ],
)
def test_a_failed_write_leaves_the_directory_as_it_was(
    store: FileCheckpointStore, monkeypatch: pytest.MonkeyPatch, step: str, number: int, message: str
) -> None:
    store.write("a", b"first")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path if step == "rename" else os, step, fail)
        for name in ("a", "b"):
            with pytest.raises(CheckpointError, match=message):
                store.write(name, b"second")
    assert sorted(os.listdir(store.directory)) == ["a"]
    assert store.read("a") == b"first"
    store.write("b", b"second")
    assert store.names() == ["a", "b"]


def test_what_does_not_read_back_is_not_published(
    store: FileCheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"another")
    with pytest.raises(CheckpointError, match="does not read back"):
        store.write("a", b"x")
    assert os.listdir(store.directory) == []


def test_a_limit_of_the_process_is_said(store: FileCheckpointStore) -> None:
    import resource
    import signal

    store.write("a", b"first")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="larger than this process may write"):
            store.write("b", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(os.listdir(store.directory)) == ["a"]


def test_a_missing_checkpoint(store: FileCheckpointStore) -> None:
    with pytest.raises(CheckpointError, match=r"reading a in .*: it does not exist"):
        store.read("a")


def test_a_directory_that_vanished(store: FileCheckpointStore) -> None:
    store.directory.rmdir()
    for call in (store.names, lambda: store.write("a", b"x"), lambda: store.delete("a")):
        with pytest.raises(CheckpointError, match="it does not exist"):
            call()


def test_a_directory_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"file.*give a directory"):
            FileCheckpointStore(path)

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(ConfigError, match="read-only"):
        FileCheckpointStore(tmp_path / "mounted")
