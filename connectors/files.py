"""Checkpoints as files in a directory."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.runtime.failpoints import reach
from stream_moe.runtime.trust import who_else_may_write

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
MAX_BYTES = 8 << 30  # of a checkpoint: three times as much memory is needed to read one
LEFT_OVER_SECONDS = 60.0  # a temporary file that nobody has written to for so long is a dead writer's
_TEMPORARY = ".tmp-"  # no checkpoint's name begins with a dot


class FileCheckpointStore:
    """The `CheckpointStore` port over one directory of files (0600); one partition, one writer.

    A checkpoint appears under its name only when all of it is on the disk and was read back; until then, and
    after a failure, the directory is as it was before. Temporary files of a writer that died are removed when they
    are a minute old. A partition changes hands while the writer before may not have finished, so each has temporary
    files of its own. Names are letters, digits, ".", "_" and "-"; they sort in the order of their age when
    the writer counts in them with leading zeros.

    Parameters
    ----------
    directory
        Where; created (0700) with its parents when missing. ConfigError when that is not possible, when it is
        no directory, when it cannot be written to, or when anybody may write to it or to what it lies in.

    Examples
    --------
    >>> import tempfile
    >>> store = FileCheckpointStore(Path(tempfile.mkdtemp()) / "checkpoints")
    >>> store.write("000002", b"new"), store.write("000001", b"old")
    (None, None)
    >>> store.names(), store.read("000002")
    (['000001', '000002'], b'new')
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._own = f"{_TEMPORARY}{secrets.token_hex(8)}-"
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if unsafe := who_else_may_write(self.directory, strict=False):
                raise ConfigError(
                    f"checkpoint directory {str(self.directory)!r}: {unsafe}; chmod o-w what anybody may write to, "
                    "or give a directory of this user: whoever writes there decides what the model knows"
                )
            if stat.S_IMODE(self.directory.stat().st_mode) & 0o077:
                # Not ours to change: it may be somebody's shared folder. The files are 0600 in any case.
                logger.warning("other users may list the checkpoint directory %s", self.directory)
            self._remove_left_over()
            # Root may write where the mode forbids it, and a mount may forbid what the mode allows: so try.
            probe = self._temporary("probe")
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f"checkpoint directory {str(self.directory)!r}: {_why(error)}; "
                "give a directory that this user owns and may write to"
            ) from error

    def names(self) -> list[str]:
        """List the checkpoints, oldest first (by name)."""
        try:
            return sorted(
                entry.name for entry in os.scandir(self.directory) if _NAME.fullmatch(entry.name) and entry.is_file()
            )
        except OSError as error:
            raise self._failed("listing", "checkpoints", error) from error

    def read(self, name: str) -> bytes:
        """Give the content of a checkpoint; CheckpointError when it is not there or cannot be read."""
        try:
            return read_whole(self._path(name))
        except OSError as error:
            raise self._failed("reading", name, error) from error

    def read_parts(self, name: str, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read parts of a file, (begin, end) in bytes each; CheckpointError when one is not there."""
        try:
            with self._path(name).open("rb", buffering=0) as file:
                found = [os.pread(file.fileno(), end - begin, begin) for begin, end in parts]
        except OSError as error:
            raise self._failed("reading", name, error) from error
        check_parts(name, parts, found)
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write a checkpoint whole or not at all; CheckpointError when that failed (the older ones stay)."""
        path = self._path(name)
        check_size(name, len(content))
        temporary = self._temporary(name)
        try:
            self._remove_left_over()
            descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                reach("checkpoint-unflushed")
                file.flush()
                os.fsync(file.fileno())
            if temporary.read_bytes() != content:
                raise OSError(errno.EIO, "what was written does not read back the same")
            reach("checkpoint-written")
            temporary.rename(path)
            reach("checkpoint-renamed")
            self._sync_directory()
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise self._failed("writing", name, error) from error

    def delete(self, name: str) -> None:
        """Delete a checkpoint; one that is not there is no error."""
        try:
            self._path(name).unlink(missing_ok=True)
            self._sync_directory()
        except OSError as error:
            raise self._failed("deleting", name, error) from error

    def _temporary(self, name: str) -> Path:
        return self.directory / f"{self._own}{name}"

    def _remove_left_over(self) -> None:
        # In a group whose members share a disk the owner before us may still be writing.
        for left in self.directory.glob(_TEMPORARY + "*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > LEFT_OVER_SECONDS:
                    left.unlink()

    def _path(self, name: str) -> Path:
        return self.directory / checked_name(name)

    def _sync_directory(self) -> None:
        # The name is in the directory's own data: without this a power cut may take the renamed file back.
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _failed(self, doing: str, name: str, error: OSError) -> CheckpointError:
        return CheckpointError(f"{doing} {name} in {str(self.directory)!r}: {_why(error)}")


def check_size(name: str, size: int) -> None:
    """Raise CheckpointError for a checkpoint that is too long; to be asked before memory is taken for it."""
    if size > MAX_BYTES:
        raise CheckpointError(f"{name}: {size:,} bytes; no checkpoint is longer than {MAX_BYTES:,}")


def check_parts(name: str, parts: Sequence[tuple[int, int]], found: Sequence[bytes]) -> None:
    """Raise CheckpointError where a file ended before a part of it did."""
    for (begin, end), part in zip(parts, found, strict=True):
        if len(part) != end - begin:
            raise CheckpointError(
                f"reading {name}: cut off: of bytes {begin:,} to {end:,} it has {len(part):,}; restore the state "
                "directory from a backup"
            )


def read_whole(path: Path) -> bytes:
    """Read a file; CheckpointError when it is none (a pipe may never end) or longer than a checkpoint may be."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path}: not a file")
    check_size(str(path), found.st_size)
    with path.open("rb") as file:
        return file.read(found.st_size)


def checked_name(name: str) -> str:
    """Return the name; CheckpointError unless it is one that stays in its directory on any file system."""
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"checkpoint name {name!r}: only letters, digits, '.', '_' and '-', and no '.' at the start"
        )
    return name


def _why(error: OSError) -> str:
    reasons = {
        errno.ENOSPC: "the disk is full; make room",
        errno.EDQUOT: "the disk quota is used up; make room",
        errno.EFBIG: "the file is larger than this process may write",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "not permitted",
        errno.EPERM: "not permitted",
        errno.ENOENT: "it does not exist",
        errno.ENOTDIR: "part of the path is a file",
        errno.EEXIST: "a file is there",
    }
    return reasons.get(error.errno or 0, error.strerror or str(error))
