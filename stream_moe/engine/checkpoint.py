"""Checkpoints: the state after a committed position, whose it is, and which of several to start from.

The bytes are `stream_moe.engine.format`'s; no object is ever unpickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import MsgspecError

from stream_moe.engine.format import VERSION, NewerVersionError, decode, encode
from stream_moe.errors import CheckpointError, ConfigError, StreamMoeError
from stream_moe.experts.base import Arrays
from stream_moe.failpoints import reach
from stream_moe.keyed.segments import Segments, require
from stream_moe.ports import CheckpointStore
from stream_moe.types import Schema

GENERATIONS = 3  # the newest may be damaged by a dying disk, the one before by the same; two are luck
AHEAD = "ahead-"  # begins the name of a checkpoint that was set aside
_NAME = re.compile(r"[0-9]{20}\.ckpt")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose state it is: only an engine with the same owner may go on from it.

    Attributes
    ----------
    fingerprint
        Hex sha256 of model, schema and parameters.
    source
        ``group/topic/partition``; empty where a file of version 1 does not say.
    parameters
        The learner's parameters as text, so that a person can be told which one differs.
    """

    fingerprint: str
    source: str = ""
    parameters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, source: str, model: str, schema: Schema, parameters: Mapping[str, object]) -> Owner:
        """Name the owner of what a model learns from a source."""
        text = {name: repr(value) for name, value in sorted(parameters.items())}
        listed = ", ".join(f"({name!r}, {value})" for name, value in text.items())
        settings = json.dumps({"model": model, "schema": schema.digest}) + f"[{listed}]"
        return cls(hashlib.sha256(settings.encode()).hexdigest(), source, text)

    def check(
        self,
        found: Owner,
        name: str,
        way_out: str = "run with the old ones, or choose another --state-dir and --group",
    ) -> None:
        """Raise CheckpointError when checkpoint `name`, of owner `found`, is not ours."""
        if found.source and self.source and found.source != self.source:
            raise CheckpointError(
                f"{name}: made for {found.source} (group/topic/partition), and this is {self.source}; "
                "choose another --state-dir, or put the file back where it belongs"
            )
        if found.fingerprint != self.fingerprint:
            then, now = found.parameters, self.parameters
            other = [f"{k} was {then.get(k)}, is {now.get(k)}" for k in {**then, **now} if then.get(k) != now.get(k)]
            differs = f" ({'; '.join(other)})" if then and other else ""
            raise CheckpointError(f"{name}: made by another model, schema or setting{differs}; {way_out}")


@dataclass(slots=True)
class Checkpoint:
    """Everything that is needed to go on from `offset`.

    Attributes
    ----------
    offset
        Position of the next record to read.
    owner
        Whose state it is.
    plain
        JSON values; `arrays` the named arrays.
    version
        Of the format that it was read from.
    """

    offset: int
    owner: Owner
    plain: dict[str, Any]
    arrays: Arrays
    version: int = VERSION

    @property
    def segments(self) -> list[str]:
        """Names of the files that hold the models of its keys; none where the partition has one model."""
        with understood("checkpoint"):
            keys = self.plain.get("learner", {}).get("keys") or {}
            return [str(name) for name in keys.get("segments", ())]

    def to_bytes(self) -> bytes:
        owner = self.owner
        state = {"offset": self.offset, "fingerprint": owner.fingerprint, "source": owner.source}
        return encode(state | {"parameters": owner.parameters, "plain": self.plain}, self.arrays)

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "checkpoint") -> Checkpoint:
        """Read a checkpoint of any version; CheckpointError says why it is bad."""
        version, (state, arrays) = decode(content, name)
        with understood(name):
            owner = Owner(_as(str, state["fingerprint"]), _as(str, state["source"]), _as(dict, state["parameters"]))
            return cls(_as(int, state["offset"]), owner, _as(dict, state["plain"]), arrays, version)


def _as(kind: type, value: Any) -> Any:
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**63):
        raise ValueError(f"{ascii(value)[:40]} stands where {kind.__name__} should")
    return value


@contextlib.contextmanager
def understood(name: str) -> Iterator[None]:
    """Turn what goes wrong while a whole checkpoint is taken apart into a CheckpointError."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MsgspecError, ConfigError) as error:
        why = f"{type(error).__name__}: {ascii(str(error))[1:120]}"
        raise CheckpointError(f"{name}: whole, but it does not hold what this program keeps there: {why}") from None


def generations(store: CheckpointStore) -> list[str]:
    """List the checkpoints that a start may use, oldest first."""
    return [name for name in store.names() if _NAME.fullmatch(name)]


def newest_usable(store: CheckpointStore, owner: Owner, committed: int | None) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, of this owner, and not ahead of the committed offset.

    One that is ahead was made by a run whose commits are lost, or for another log: using it would skip records,
    now or once the position has come past it. It is set aside under another name; nothing is deleted.
    A checkpoint of another owner or of a newer program is not skipped over but refused, because going on would
    overwrite it. One that names files which are missing is skipped for an older one that has all of its own; where
    there is none, it is refused: the state must not silently begin anew.
    """
    incomplete: CheckpointError | None = None
    for name in reversed(generations(store)):
        try:
            content = store.read(name)
            found = Checkpoint.from_bytes(content, name)
        except NewerVersionError:
            raise
        except CheckpointError as error:
            _log.warning("skipping a bad checkpoint: %s", error)
            continue
        owner.check(found.owner, name)
        if found.offset <= (committed or 0):
            try:
                require(found.segments, store, name)
            except CheckpointError as error:
                _log.error("skipping a checkpoint that is not whole: %s", error)
                incomplete = incomplete or error
                continue
            return found
        _log.warning("%s is at offset %d, ahead of the committed %s: set aside", name, found.offset, committed)
        try:
            store.write(AHEAD + name, content)
            store.delete(name)
        except CheckpointError as error:
            _log.error("%s stays where it is: %s", name, error)
    if incomplete is not None:
        raise incomplete
    return None


def stored_schema(store: CheckpointStore) -> Schema | None:
    """Return the schema of the newest whole checkpoint: the log may no longer hold the record that carried it."""
    for name in reversed(generations(store)):
        try:
            found = Checkpoint.from_bytes(store.read(name), name)
            with understood(name):
                return Schema.from_dict(found.plain["schema"])
        except NewerVersionError:
            raise
        except CheckpointError:
            continue  # `newest_usable` logs why
    return None


def segments_named(store: CheckpointStore) -> set[str]:
    """Name the segments of models that a checkpoint in the store refers to, even one that was set aside."""
    named: set[str] = set()
    for name in store.names():
        if name.endswith(".ckpt"):
            try:
                named.update(Checkpoint.from_bytes(store.read(name), name).segments)
            except NewerVersionError:
                raise
            except CheckpointError:
                continue  # nobody can start from it
    return named


class CheckpointWriter:
    """Writes checkpoints in a thread, one at a time, and keeps the newest generations.

    With `segments`, what those hold back is written before the checkpoint that names it, and what no checkpoint in
    the store names any more is deleted after it.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self.segments: Segments | None = None
        self._thread: threading.Thread | None = None
        self.time: float | None = None  # seconds since 1970 of the newest one
        self.seconds = 0.0
        self.bytes = 0
        self.failures: Counter[str] = Counter()  # by reason

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def write(self, checkpoint: Checkpoint) -> None:
        """Start writing; waits for the one before."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(checkpoint,), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _write(self, checkpoint: Checkpoint) -> None:
        start = time.perf_counter()
        name = f"{checkpoint.offset:020d}.ckpt"
        try:
            if self.segments is not None:
                self.segments.flush(checkpoint.segments)
            content = checkpoint.to_bytes()
            self._store.write(name, content)
        except (OSError, StreamMoeError, MemoryError) as error:  # the log still has everything: go on, and say so
            self.failures[_reason(error)] += 1
            _log.error("checkpoint %s failed: %s", name, error or type(error).__name__)
            return
        self.time, self.seconds, self.bytes = time.time(), time.perf_counter() - start, len(content)
        try:
            for old in generations(self._store)[:-GENERATIONS]:
                self._store.delete(old)
                reach("generation-deleted")
            if self.segments is not None:
                self.segments.collect(segments_named(self._store))
        except (OSError, StreamMoeError) as error:
            _log.warning("an old checkpoint stays: %s", error)


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
