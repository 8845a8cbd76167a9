"""Whose a folder is, before machine code (which numba keeps as pickle) or a state is taken from it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from numba.core import config as numba_config

from connectors.files import FileCheckpointStore
from stream_moe.errors import ConfigError
from stream_moe.runtime import compiled
from stream_moe.runtime.trust import who_else_may_write

ANOTHER = 12_345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the machine code would be kept."""
    base = tmp_path / "cache"
    base.mkdir(0o700)
    monkeypatch.setattr(numba_config, "CACHE_DIR", str(base))
    compiled.cache_directory.cache_clear()
    yield base
    compiled.cache_directory.cache_clear()


def kept() -> str:
    compiled.cache_directory.cache_clear()
    return compiled.cache_directory()


def test_what_is_ours_alone_is_used(base: Path) -> None:
    directory = Path(kept())
    assert directory.parent == base
    assert directory.stat().st_mode & 0o777 == 0o700
    directory.chmod(0o755)
    assert kept() == str(directory)
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("where", ["itself", "parent", "above"])
def test_what_others_may_write_to_is_not_used(base: Path, where: str, caplog: pytest.LogCaptureFixture) -> None:
    path = {"itself": Path(kept()), "parent": base, "above": base.parent}[where]
    path.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert kept() == ""
    (line,) = caplog.messages
    assert f"others may write to {path} (mode 0777); compiled code cannot be kept" in line
    assert "NUMBA_CACHE_DIR" in line
    path.chmod(0o700)


@as_root
@pytest.mark.parametrize("where", ["itself", "parent", "above"])
def test_what_another_user_made_is_not_used(base: Path, where: str, caplog: pytest.LogCaptureFixture) -> None:
    path = {"itself": Path(kept()), "parent": base, "above": base.parent}[where]
    os.chown(path, ANOTHER, ANOTHER)
    with caplog.at_level(logging.WARNING):
        assert kept() == ""
    assert f"{path} belongs to user {ANOTHER}" in caplog.messages[0]
    os.chown(path, 0, 0)


@as_root
def test_a_link_of_another_user_is_not_followed(base: Path) -> None:
    directory = Path(kept())
    away = base / "away"
    directory.rename(away)
    directory.symlink_to(away)
    os.chown(directory, ANOTHER, ANOTHER, follow_symlinks=False)
    assert f"{directory} belongs to user {ANOTHER}" in who_else_may_write(directory, strict=True)
    assert who_else_may_write(away, strict=True) == ""


def test_foreign_folders_are_never_deleted(base: Path) -> None:
    before = time.time() - 40 * 86400
    unused, held, named = (base / f"kernels-{name}" for name in ("0" * 16, "1" * 16, "of-mine"))
    for folder, name in ((unused, "a.nbi"), (held, "letters.txt"), (named, "a.nbi")):
        folder.mkdir()
        (folder / name).touch()
    linked = base / f"kernels-{'2' * 16}"
    linked.symlink_to(named)
    theirs = base / f"kernels-{'3' * 16}"
    theirs.mkdir()
    if os.geteuid() == 0:
        os.chown(theirs, ANOTHER, ANOTHER)
    for folder in (unused, held, named, linked, theirs):
        os.utime(folder, (before, before), follow_symlinks=False)
    kept()
    assert not unused.exists()
    assert held.exists()
    assert named.exists()
    assert linked.is_symlink()
    assert theirs.exists() == (os.geteuid() == 0)


def test_a_state_folder_that_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    FileCheckpointStore(state / "group")
    for path in (state, state / "group"):
        path.chmod(0o777)
        with pytest.raises(ConfigError, match=rf"others may write to {path} \(mode 0777\); chmod o-w"):
            FileCheckpointStore(state / "group")
        path.chmod(0o770)  # a volume that a group shares
        FileCheckpointStore(state / "group")
    state.chmod(0o1777)  # as /tmp: nobody may rename what is ours
    FileCheckpointStore(state / "group")


@as_root
def test_a_state_folder_that_another_user_made_where_anybody_may_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    FileCheckpointStore(tmp_path / "group")
    os.chown(tmp_path / "group", ANOTHER, ANOTHER)
    with pytest.raises(ConfigError, match=f"belongs to user {ANOTHER}"):
        FileCheckpointStore(tmp_path / "group")
    tmp_path.chmod(0o700)
    FileCheckpointStore(tmp_path / "group")  # a volume that belongs to whom the cluster says
