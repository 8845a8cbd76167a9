"""Checkpoints: the state after a committed position, whose it is, and which of several to start from.

The bytes are `stream_moe.checkpoints.format`'s; no object is ever unpickled.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Collection

from stream_moe.checkpoints.checkpoint import Checkpoint, Owner, understood
from stream_moe.checkpoints.format import NewerVersionError
from stream_moe.engine.records.growth import check_grown
from stream_moe.errors import CheckpointError, StreamMoeError
from stream_moe.models.parts import StateFiles
from stream_moe.ports import CheckpointStore
from stream_moe.runtime.failpoints import reach
from stream_moe.types import Schema

GENERATIONS = 3  # the newest may be damaged by a dying disk, the one before by the same; two are luck
AHEAD = "ahead-"  # begins the name of a checkpoint that was set aside
_NAME = re.compile(r"[0-9]{20}\.ckpt")
_log = logging.getLogger(__name__)


def generations(store: CheckpointStore) -> list[str]:
    """List the checkpoints that a start may use, oldest first."""
    return [name for name in store.names() if _NAME.fullmatch(name)]


def newest_usable(
    store: CheckpointStore, owner: Owner, committed: int | None, refused: Collection[str] = ()
) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, of this owner, and not ahead of the committed offset.

    One that is ahead was made by a run whose commits are lost, or for another log: using it would skip records,
    now or once the position has come past it. It is set aside under another name; nothing is deleted.
    A checkpoint of another owner or of a newer program is not skipped over but refused, because going on would
    overwrite it. One that names files which are missing is skipped for an older one that has all of its own; where
    there is none, it is refused: the state must not silently begin anew. Those whose names are in `refused` are not
    looked at.
    """
    incomplete: CheckpointError | None = None
    for name in reversed(generations(store)):
        if name in refused:
            continue
        try:
            content = store.read(name)
            found = Checkpoint.from_bytes(content, name)
        except NewerVersionError:
            raise
        except CheckpointError as error:
            _log.warning("%s: skipping a bad checkpoint: %s", owner.source, error)
            continue
        owner.check(found.owner, name, model=found.model, schema=found.first_schema)
        if found.offset <= (committed or 0):
            try:
                found.check_files(store, name)
            except CheckpointError as error:
                _log.error("%s: skipping a checkpoint that is not whole: %s", owner.source, error)
                incomplete = incomplete or error
                continue
            return found
        what = f"{owner.source}: {name} is at offset {found.offset}"
        _log.warning("%s, ahead of the committed %s: set aside", what, committed)
        try:
            store.write(AHEAD + name, content)
            store.delete(name)
        except CheckpointError as error:
            _log.error("%s: %s stays where it is: %s", owner.source, name, error)
    if incomplete is not None:
        raise incomplete
    return None


def stored_schema(store: CheckpointStore) -> tuple[Schema, bool] | None:
    """Return the schema with which the newest whole checkpoint's log began, and whether it was learnt from that.

    The log may no longer hold the records that told it.
    """
    for name in reversed(generations(store)):
        try:
            found = Checkpoint.from_bytes(store.read(name), name)
            with understood(name):
                origin = found.plain.get("origin", {"schema": found.plain["schema"], "learnt": False})
                return Schema.from_dict(origin["schema"]), bool(origin["learnt"])
        except NewerVersionError:
            raise
        except CheckpointError:
            continue  # `newest_usable` logs why
    return None


def grown_schema(found: Checkpoint, first: Schema) -> Schema:
    """Return the schema that a checkpoint holds; CheckpointError unless `first` may have grown to it."""
    with understood(found.name):
        now = Schema.from_dict(found.plain["schema"])
    check_grown(first, now, found.name)
    return now


def files_named(store: CheckpointStore) -> set[str]:
    """Name the files that a checkpoint in the store refers to, even one that was set aside."""
    named: set[str] = set()
    for name in store.names():
        if name.endswith(".ckpt"):
            try:
                named.update(Checkpoint.from_bytes(store.read(name), name).files)
            except NewerVersionError:
                raise
            except CheckpointError:
                continue  # nobody can start from it
    return named


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time, and keeps the newest generations.

    Only those that are whole count: a damaged one must not push out the last that can be gone on from. What this
    process has written is whole; what was there before is read once.
    Where a learner has `files`, what they hold back is written before the checkpoint that names it, and what no
    checkpoint in the store names any more is deleted after it.
    """

    def __init__(self, store: CheckpointStore, where: str = "") -> None:
        self._store, self._where = store, where
        self._whole: dict[str, bool] = {}  # by name, as far as it is known
        self.files: StateFiles | None = None
        self._thread: threading.Thread | None = None
        self.time: float | None = None  # seconds since 1970 of the newest one
        self.seconds = 0.0
        self.bytes = 0
        self.failures: Counter[str] = Counter()  # by reason

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def write(self, checkpoint: Checkpoint) -> None:
        """Start writing; waits for the one before."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(checkpoint,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, checkpoint: Checkpoint) -> None:
        start = time.perf_counter()
        name = f"{checkpoint.offset:020d}.ckpt"
        try:
            if self.files is not None:
                self.files.flush(checkpoint.files)
            content = checkpoint.to_bytes()
            self._store.write(name, content)
        except (OSError, StreamMoeError, MemoryError) as error:  # the log still has everything: go on, and say so
            self.failures[_reason(error)] += 1
            _log.error("%scheckpoint %s failed: %s", self._where, name, error or type(error).__name__)
            return
        self._whole[name] = True
        self.time, self.seconds, self.bytes = time.time(), time.perf_counter() - start, len(content)
        try:
            for old in self._old():
                self._store.delete(old)
                self._whole.pop(old, None)
                reach("generation-deleted")
            if self.files is not None:
                self.files.collect(files_named(self._store))
        except (OSError, StreamMoeError) as error:
            _log.warning("%san old checkpoint stays: %s", self._where, error)

    def refuse(self, name: str) -> None:
        """Count a checkpoint no more: its bytes are whole, and no state can be restored from them."""
        self._whole[name] = False

    def _old(self) -> list[str]:
        """Name the checkpoints, oldest first, that are older than as many whole ones as are kept."""
        names, kept = generations(self._store), 0
        for at in range(len(names) - 1, -1, -1):
            kept += self._is_whole(names[at])
            if kept == GENERATIONS:
                return names[:at]
        return []

    def _is_whole(self, name: str) -> bool:
        if name not in self._whole:
            try:
                Checkpoint.from_bytes(self._store.read(name), name).check_files(self._store, name)
                self._whole[name] = True
            except CheckpointError as error:
                _log.warning("%sa checkpoint that does not count as one: %s", self._where, error)
                self._whole[name] = False
        return self._whole[name]


def _reason(error: BaseException) -> str:
    """Say in a word, for counting, why a checkpoint was not written: space, access, memory or other."""
    if isinstance(error, MemoryError):
        return "memory"
    cause = error if isinstance(error, OSError) else error.__cause__
    code = cause.errno if isinstance(cause, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "space"
    if code in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR):
        return "access"
    return "other"
