"""Checkpoints in an object store: anything fsspec reaches (s3://, gs://, abfs://, file://, memory://, ...)."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from connectors.files import FileCheckpointStore, check_parts, check_size, checked_name, read_whole
from stream_moe.errors import CheckpointError, ConfigError, one_line
from stream_moe.ports import CheckpointStore
from stream_moe.shown import holds_secret, without_secrets

logger = logging.getLogger(__name__)

_PROBE = ".tmp-probe"  # no checkpoint's name begins with a dot


class ObjectCheckpointStore:
    """The `CheckpointStore` port over one prefix of an object store; one partition, one writer.

    Most object stores have no rename, and show an object when all of it has arrived. So a checkpoint is written
    under its name, read back and compared; one that differs is deleted, and what a writer that died left half
    done (in a store that shows such) fails its sha256 when it is read. The generation before is a whole one.

    Parameters
    ----------
    url
        Such as ``s3://bucket/states/group-events-0``. Credentials come from where the store's own client looks
        for them (environment, profile, role). ConfigError when the URL holds a password, no package reaches that
        kind of store, or nothing can be written there.

    Examples
    --------
    >>> store = ObjectCheckpointStore("memory://doctest/group-events-0")
    >>> store.write("000002", b"new"), store.write("000001", b"old")
    (None, None)
    >>> store.names(), store.read("000002")
    (['000001', '000002'], b'new')
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._fs, self._root = _reach(self.url)
        try:
            with contextlib.suppress(NotImplementedError):  # a store without directories
                self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(f"{self._root}/{_PROBE}", b"probe")
            self._fs.rm_file(f"{self._root}/{_PROBE}")
        except Exception as error:  # each store's client has errors of its own
            raise ConfigError(
                f"state directory {self.url!r}: {_why(error)}; give one that may be written to"
            ) from None

    def names(self) -> list[str]:
        """List the checkpoints, oldest first (by name)."""
        with self._named("listing", "checkpoints"):
            self._fs.invalidate_cache(self._root)
            try:
                entries = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:  # no object, no prefix
                return []
            names = (entry["name"].rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file")
            return sorted(name for name in names if not name.startswith("."))

    def read(self, name: str) -> bytes:
        """Give the content of a checkpoint; CheckpointError when it is not there or cannot be read."""
        with self._named("reading", name):
            return _read(self._fs, self._path(name))

    def read_parts(self, name: str, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read parts of an object, (begin, end) in bytes each; CheckpointError when one is not there."""
        path = self._path(name)
        with self._named("reading", name):  # one call, so that a store far away is asked for all at the same time
            begins, ends = [begin for begin, _ in parts], [end for _, end in parts]
            found = [bytes(part) for part in self._fs.cat_ranges([path] * len(parts), begins, ends, on_error="raise")]
        check_parts(name, parts, found)
        return found

    def write(self, name: str, content: bytes) -> None:
        """Write a checkpoint and read it back; CheckpointError when that failed (the older ones stay)."""
        path = self._path(name)
        check_size(name, len(content))
        with self._named("writing", name):
            self._fs.pipe_file(path, content)
            self._fs.invalidate_cache(self._root)
            if self._fs.cat_file(path) != content:
                with contextlib.suppress(Exception):
                    self._fs.rm_file(path)
                raise OSError("what was written does not read back the same")

    def delete(self, name: str) -> None:
        """Delete a checkpoint; one that is not there is no error."""
        with self._named("deleting", name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{checked_name(name)}"

    @contextlib.contextmanager
    def _named(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # each store's client has errors of its own
            raise CheckpointError(f"{doing} {name} in {self.url!r}: {_why(error)}") from None


def is_url(location: str) -> bool:
    return "://" in location


def open_store(location: str, name: str, former: str = "") -> CheckpointStore:
    """Open the store of one partition's checkpoints, `name`, below a directory or a URL.

    A ``file://`` URL is a directory: the file system has the rename and the permissions that fsspec does not use.

    Where nothing is there yet, what lies under the name that earlier versions gave it, `former`, is copied. It stays
    where it was too: during a rolling upgrade a member of such a version may get the partition once more. Whose each
    checkpoint is, it says itself, so one of another group that shared the folder is not taken for ours.
    """
    store = _open(location, name)
    inside = former and not former.startswith("/") and ".." not in Path(former).parts
    if inside and former != name and not store.names() and _is_there(location, former):
        source = _open(location, former)
        # A checkpoint after what it refers to, the newest first: an end in the middle leaves a state that is whole.
        newest_first = source.names()[::-1]
        for each in sorted(newest_first, key=lambda each: each.endswith(".ckpt")):
            store.write(each, source.read(each))
        logger.warning(
            "the state of %s was found under its former name %s, and copied; delete that one when no earlier version "
            "runs any more", name, former,
        )  # fmt: skip
    return store


def _open(location: str, name: str) -> CheckpointStore:
    if is_url(location) and not location.startswith("file://"):
        return ObjectCheckpointStore(f"{location.rstrip('/')}/{name}")
    return FileCheckpointStore(Path(location.removeprefix("file://")) / name)


def _is_there(location: str, name: str) -> bool:
    if is_url(location) and not location.startswith("file://"):
        fs, root = _reach(f"{location.rstrip('/')}/{name}")
        try:
            return bool(fs.exists(root))
        except Exception as error:  # each store's client has errors of its own
            raise ConfigError(f"state directory {location}/{name}: {_why(error)}") from None
    return (Path(location.removeprefix("file://")) / name).is_dir()


def found_checkpoints(location: str) -> dict[str, Callable[[], bytes]]:
    """Name the .ckpt files at or below a path or URL, each with what reads it; changes nothing there.

    ConfigError when there is nothing at all.
    """
    found: dict[str, Callable[[], bytes]]
    if is_url(location):
        fs, root = _reach(location)
        try:
            names = [name for name in sorted(fs.find(root)) if name.endswith(".ckpt") or name == root]
        except Exception as error:  # each store's client has errors of its own
            raise ConfigError(f"{location}: {_why(error)}") from None
        found = {fs.unstrip_protocol(name): partial(_read, fs, name) for name in names}
    else:
        path = Path(location)
        if not path.exists():
            raise ConfigError(f"{location}: No such file or directory; name a .ckpt file or the state directory")
        files = sorted(path.rglob("*.ckpt")) if path.is_dir() else [path]
        found = {str(file): partial(read_whole, file) for file in files}
    if not found:
        raise ConfigError(f"{location}: no .ckpt file there; name one, or the state directory")
    return found


def check_address(what: str, url: str) -> None:
    """Raise ConfigError for an address that holds a password, a token or a signature; it is not repeated."""
    if holds_secret(url):
        raise ConfigError(
            f"{what} {without_secrets(url)}: a password in a URL, or a token, ends in logs; give it where the "
            "store's own client looks for it (environment, profile, role)"
        )


def _read(fs: Any, path: str) -> bytes:
    check_size(path, fs.size(path) or 0)
    return bytes(fs.cat_file(path))


def _reach(url: str) -> tuple[Any, str]:
    """Give the file system and the path in it that a URL means."""
    check_address("state directory", url)
    try:
        import fsspec
    except ImportError:
        raise ConfigError(f"state directory {url!r}: needs fsspec; pip install 'stream-moe[objects]'") from None
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # "Install s3fs to access S3", "Protocol not known: ..."
        raise ConfigError(f"state directory {url!r}: {_why(error)}") from None
    return fs, root.rstrip("/")


def _why(error: Exception) -> str:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else one_line(error)
    return reason[:300] or type(error).__name__
