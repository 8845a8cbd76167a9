"""No two partitions of two groups share a writer or a folder, and what earlier versions left is found once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from connectors.files import FileCheckpointStore
from connectors.kafka import KafkaSettings
from connectors.names import folder_name, former_name, writer_name
from connectors.objects import open_store

PIECES = ("a", "b", "-", "~", "1", ".", "/")
GROUPS = ["".join(each) for n in (1, 2, 3) for each in itertools.product(PIECES, repeat=n)]
TOPICS = ["".join(each) for n in (1, 2, 3) for each in itertools.product(("a", "b", "-", "1", "."), repeat=n)]


@pytest.mark.parametrize("name", [writer_name, folder_name])
def test_no_two_share_a_name(name: object) -> None:
    assert callable(name)
    names = {name(group, topic, partition) for group in GROUPS for topic in TOPICS for partition in (0, 1)}
    assert len(names) == len(GROUPS) * len(TOPICS) * 2


def test_the_two_that_shared_one() -> None:
    one, other = (KafkaSettings("k:1", topic, group=group) for group, topic in (("a", "b-c"), ("a-b", "c")))
    assert one.transactional_id(0) != other.transactional_id(0)
    assert one.transactional_id(0).startswith("a-b-c-")  # as access lists have it


@pytest.mark.parametrize("group", ["../../x", "/etc", "..", ".", "a/b", "a\\b", "a\0b", "é", "x" * 400, "C:", "a\nb"])
@pytest.mark.parametrize("topic", ["events", "..", "../x", "t" * 249])
def test_a_name_stays_in_its_folder(group: str, topic: str, tmp_path: Path) -> None:
    name = folder_name(group, topic, 7)
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    FileCheckpointStore(tmp_path / name).write("00000000000000000001.ckpt", b"x")
    assert len(name) < 256
    assert name.isascii()


def test_most_names_are_what_they_were() -> None:
    for group, topic in (("stream-moe", "events"), ("a", "b"), ("my.group-1", "x_y.z")):
        assert folder_name(group, topic, 3) == writer_name(group, topic, 3) == former_name(group, topic, 3)


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_the_state_of_an_earlier_version_is_taken_over_once(where: str, tmp_path: Path) -> None:
    location = str(tmp_path) if where == "folder" else f"memory://{tmp_path.name}"
    name, former = folder_name("a", "b-c", 0), former_name("a", "b-c", 0)
    old = open_store(location, former)
    for each in ("00000000000000000001.ckpt", "00000000000000000002.ckpt", "segment-1"):
        old.write(each, each.encode())
    new = open_store(location, name, former)
    assert new.names() == old.names()
    assert new.read("00000000000000000002.ckpt") == b"00000000000000000002.ckpt"
    new.delete("segment-1")
    old.write("00000000000000000003.ckpt", b"of an earlier version that had the partition meanwhile")
    assert open_store(location, name, former).names() == ["00000000000000000001.ckpt", "00000000000000000002.ckpt"]


def test_nothing_is_taken_over_from_outside(tmp_path: Path) -> None:
    state = tmp_path / "state"
    FileCheckpointStore(tmp_path / "x-events-0").write("00000000000000000001.ckpt", b"x")
    group = "../x"
    assert open_store(str(state), folder_name(group, "events", 0), former_name(group, "events", 0)).names() == []


def test_a_copy_that_was_cut_short_leaves_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("00000000000000000001.ckpt", "00000000000000000002.ckpt", "segment-1"):
        FileCheckpointStore(tmp_path / "a-b-c-0").write(each, b"x")
    written: list[str] = []
    monkeypatch.setattr(FileCheckpointStore, "write", lambda store, name, content: written.append(name))
    open_store(str(tmp_path), folder_name("a", "b-c", 0), "a-b-c-0")
    assert written == ["segment-1", "00000000000000000002.ckpt", "00000000000000000001.ckpt"]
